"""What a server's answers mean: bytes of tokens, loops, top log-probabilities. No server is needed for that."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dante.errors import DanteError
from dante.teachers.engines.base import Decoding, Request, generation_from_bytes
from dante.teachers.engines.server.api import Chat, Completions, Words, loop_end, read_scores
from dante.teachers.engines.server.client import Garbage
from dante.teachers.smoke import smoke_tokenizer
from dante.text.repetition import RepetitionLimit, repeats
from dante.text.tokens.offsets import ends_of_pieces
from tests.bad_server import chat, completion

GREEDY = Decoding(0.0, 1.0, 0, 24, 1, 4, None)
WITHOUT_TOKENIZER = Words(None, set(), 512)


@pytest.fixture(scope="module")
def words() -> Words:
    tokenizer = smoke_tokenizer()
    return Words(tokenizer, {tokenizer.eos_token_id}, 512)


# --- bytes -----------------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=12)


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    """`raw` in pieces, cut wherever `places` say, also inside characters."""
    edges = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return [raw[a:b] for a, b in zip(edges, edges[1:], strict=False)]


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 60), max_size=8), TEXTS)
def test_bytes_cut_anywhere_end_where_their_last_whole_character_does(text: str, places: list[int], more: str) -> None:
    pieces = cut(text.encode("utf-8"), places)
    seen, expected = b"", []
    for piece in pieces:
        seen += piece
        expected.append(len(seen.decode("utf-8", errors="ignore").encode("utf-8")))
    assert ends_of_pieces(text, [*pieces, more.encode("utf-8")])[: len(pieces)] == expected
    # vLLM's way: nothing until the character is complete, then all of it.
    held = [seen[a:b] for seen, a, b in zip([text.encode()] * len(pieces), [0, *expected], expected, strict=False)]
    assert ends_of_pieces(text, held) == expected


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS, st.characters(min_codepoint=0x80, exclude_categories=["Cs"]), st.integers(0, 3))
def test_broken_bytes_are_told_in_any_way(before: str, after: str, broken: str, told: int) -> None:
    half = broken.encode("utf-8")[:1]
    text = before + "\ufffd" * told + after
    ends = ends_of_pieces(text, [before.encode("utf-8"), half, after.encode("utf-8")])
    # What stands for the broken byte begins where the first piece ends, and the rest is matched behind it.
    assert ends[0] == len(before.encode("utf-8"))
    assert ends == sorted(ends)
    assert len(text.rstrip("\ufffd").encode("utf-8")) <= ends[2] <= len(text.encode("utf-8"))


def test_pieces_of_another_text_are_refused() -> None:
    for pieces in ([b"off"], [b"o"], [b"\xf0\x9f"], []):
        with pytest.raises(ValueError, match="piece"):
            ends_of_pieces("okay", pieces)


def test_tokens_behind_the_text_are_dropped_only_when_it_stopped() -> None:
    pieces, rows = [b"ok", b" ", b"\xf0\x9f"], [[-0.1, -3.0]] * 3
    cut_off = generation_from_bytes("ok ", pieces, [-0.1] * 3, rows, "length", 512)
    assert (cut_off.token_ends, len(cut_off.token_logprobs)) == ([2, 3, 3], 3)
    ended = generation_from_bytes("ok ", [b"ok", b" ", b"<|im_end|>"], [-0.1] * 3, rows, "stop", 512)
    assert (ended.token_ends, len(ended.token_logprobs)) == ([2, 3], 2)
    silent = generation_from_bytes("", [b"<|im_end|>"], [-0.1], rows[:1], "stop", 512)
    assert (silent.token_ends, silent.output_entropy, silent.output_entropy_upper) == ([], 0.0, 0.0)


def test_both_ways_to_read_an_answer_agree(words: Words) -> None:
    """The same tokens, once as ids and once as bytes; the end-of-turn entry is dropped from both."""
    text = "Così 👍🏽 è: e\u0301, 日本!"
    ids = words.tokenizer.encode(text) + [words.tokenizer.eos_token_id]
    by_ids = Completions().read(completion(text, ids), GREEDY, words)
    by_bytes = Chat().read(chat(text, own_bytes(words.tokenizer, ids)), GREEDY, words)
    assert by_ids.text == by_bytes.text == text
    assert by_ids.token_ends == by_bytes.token_ends
    assert len(by_ids.token_logprobs) == len(ids) - 1
    assert by_ids.output_entropy == pytest.approx(by_bytes.output_entropy)
    assert by_ids.output_entropy_upper == pytest.approx(by_bytes.output_entropy_upper)
    with_ids = chat(text, own_bytes(words.tokenizer, ids))
    with_ids["choices"][0]["token_ids"] = ids
    assert Chat().read(with_ids, GREEDY, words).token_ends == by_ids.token_ends


def own_bytes(tokenizer, ids: list[int]) -> list[bytes]:
    """The exact bytes of every token (GPT-2's printable alphabet undone)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    alphabet = {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}
    special = set(tokenizer.all_special_ids)
    tokens = tokenizer.convert_ids_to_tokens(ids)
    return [t.encode() if i in special else bytes(alphabet[c] for c in t) for i, t in zip(ids, tokens, strict=True)]


def test_another_tokenizer_on_the_server_is_noticed(words: Words) -> None:
    with pytest.raises(DanteError, match="teacher stage"):
        Completions().read(completion("quite another answer", words.tokenizer.encode("hello")), GREEDY, words)


# --- stop strings and loops ------------------------------------------------------------------------------------------


def test_a_stop_string_ends_text_and_entries(words: Words) -> None:
    decoding = Decoding(0.0, 1.0, 0, 24, 1, 4, None, ["###"])
    ids = words.tokenizer.encode("fine\n###")
    (newline,) = words.tokenizer.encode("\n")
    kept = ids.index(newline) + 1
    for read in (
        Completions().read(completion("fine\n", ids), decoding, words),
        Chat().read(chat("fine\n", own_bytes(words.tokenizer, ids)), decoding, words),
    ):
        assert (read.text, read.finish_reason) == ("fine\n", "stop")
        assert (len(read.token_ends), len(read.token_logprobs), read.token_ends[-1]) == (kept, kept, 5)


LIMITS = st.builds(
    lambda least, more, count: RepetitionLimit(least, least + more, count),
    st.integers(1, 4),
    st.integers(0, 4),
    st.integers(1, 4),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=40), LIMITS)
def test_a_loop_ends_where_an_engine_would_have_ended_it(ids: list[int], limit: RepetitionLimit) -> None:
    first = next((n for n in range(1, len(ids) + 1) if repeats(ids[:n], limit)), None)
    assert loop_end(ids, limit) == first


def test_a_loop_is_cut_where_it_is_complete(words: Words) -> None:
    decoding = Decoding(0.0, 1.0, 0, 24, 1, 4, RepetitionLimit(1, 4, 3))
    (a,), (b,) = words.tokenizer.encode("x"), words.tokenizer.encode("y")
    ids = [b, *[a, b] * 6]
    for read in (
        Completions().read(completion("y" + "xy" * 6, ids, "length"), decoding, words),
        Chat().read(chat("y" + "xy" * 6, [b"y", *[b"x", b"y"] * 6], "length"), decoding, WITHOUT_TOKENIZER),
    ):
        assert (read.text, read.finish_reason) == ("yxyxyx", "repetition")
        assert len(read.token_ends) == len(read.token_logprobs) == 6
        assert read.token_ends[-1] == 6


# --- top log-probabilities -------------------------------------------------------------------------------------------


def entry(probabilities: np.ndarray, drawn: int, k: int) -> dict:
    """One position as vLLM's chat API gives it: the drawn token, then the largest ones, cut at k."""
    order = [drawn, *(int(i) for i in np.argsort(-probabilities, kind="stable") if i != drawn)]
    top = [{"token": str(i), "logprob": float(np.log(probabilities[i]))} for i in order[:k]]
    return {"token": "x", "bytes": [120], "logprob": float(np.log(probabilities[drawn])), "top_logprobs": top}


@settings(max_examples=200, deadline=None)
@given(st.integers(3, 60), st.integers(2, 12), st.floats(0.02, 3.0), st.integers(0, 2**32 - 1))
def test_a_rare_drawn_token_does_not_break_the_entropy_bounds(v: int, k: int, flat: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    p = draw.dirichlet(np.full(v, flat)) + 1e-9
    p /= p.sum()
    entries = [entry(p, int(drawn), k) for drawn in draw.integers(0, v, size=4)]
    answer = chat("x" * 4, [b"x"] * 4, "length")
    answer["choices"][0]["logprobs"]["content"] = entries
    read = Chat().read(answer, Decoding(1.0, 1.0, 0, 24, 1, k, None), Words(None, set(), v))
    entropy = float(-(p * np.log(p)).sum())
    assert read.output_entropy <= entropy + 1e-6
    assert read.output_entropy_upper >= entropy - 1e-6


def test_positions_with_fewer_log_probabilities_count_as_they_are() -> None:
    wide, narrow = [np.log(1 / 8)] * 8, [-1e-9]
    read = generation_from_bytes("abc", [b"a", b"b", b"c"], [-1.0] * 3, [narrow, wide, narrow], "length", 8)
    assert read.output_entropy == pytest.approx(np.log(8) / 3, abs=1e-6)
    assert read.output_entropy_upper == pytest.approx(np.log(8) / 3, abs=1e-6)


def test_top_ones_come_in_any_order_and_the_drawn_one_beside_them(words: Words) -> None:
    (x,) = words.tokenizer.encode("x")
    answer = completion("x", [x])
    row = {"token_id:7": -9.0, "token_id:5": -2.0, "token_id:3": -0.5, "token_id:2": -1.5}
    answer["choices"][0]["logprobs"]["top_logprobs"] = [row]
    decoding = Decoding(1.0, 1.0, 0, 24, 1, 3, None)
    read = Completions().read(answer, decoding, words)
    expected = generation_from_bytes("x", [b"x"], [-0.6], [[-0.5, -1.5, -2.0]], "stop", 512)
    assert read == expected


# --- scores, garbage, what is asked ----------------------------------------------------------------------------------


def test_scores_are_sorted_and_start_where_asked() -> None:
    prompt = [
        None,
        {"7": {"logprob": -3.0, "rank": 4}, "1": {"logprob": -0.5}, "2": {"logprob": -1.0}},
        {"2": {"logprob": -0.25}, "9": {"logprob": -2.0}},
    ]
    scored = read_scores({"choices": [{"prompt_logprobs": prompt}]}, [5, 7, 2], 1, 2)
    assert scored.token_logprobs == [-3.0, -0.25]
    assert scored.top_ids == [[1, 2], [2, 9]]
    assert scored.top_logprobs == [[-0.5, -1.0], [-0.25, -2.0]]
    with pytest.raises(Garbage, match="2 of 3"):
        read_scores({"choices": [{"prompt_logprobs": prompt[:2]}]}, [5, 7, 2], 1, 2)
    with pytest.raises(Garbage, match="token 4"):
        read_scores({"choices": [{"prompt_logprobs": prompt}]}, [5, 7, 4], 1, 2)
    with pytest.raises(DanteError, match="cannot score"):
        read_scores({"choices": [{"text": "x"}]}, [5, 7], 1, 2)


OPENAI_CHAT = {"messages", "max_tokens", "temperature", "top_p", "seed", "logprobs", "top_logprobs", "stop"}


def test_a_hosted_server_is_sent_only_fields_it_knows(words: Words) -> None:
    decoding = Decoding(0.7, 0.9, 0, 24, 1, 20, RepetitionLimit(1, 2, 3), ["#"])
    request = Request([1, 2], 5, [{"role": "user", "content": "hello"}])
    hosted = Chat().body(request, decoding, words, vllm_fields=False)
    assert set(hosted) == OPENAI_CHAT
    assert (hosted["seed"], hosted["temperature"], hosted["top_p"], hosted["top_logprobs"]) == (5, 0.7, 0.9, 20)
    assert request.messages == [{"role": "user", "content": "hello"}]
    ours = Completions().body(request, decoding, words, vllm_fields=True)
    assert (ours["prompt"], ours["top_k"], ours["stop_token_ids"]) == ([1, 2], 0, sorted(words.stop_ids))
    assert ours["repetition_detection"] == {"min_pattern_size": 1, "max_pattern_size": 2, "min_count": 3}


def test_a_given_beginning_is_an_assistant_message_to_continue(words: Words) -> None:
    request = Request([1, 2], 5, [{"role": "user", "content": "hello"}], prefix=" Well, ")
    body = Chat().body(request, GREEDY, words, vllm_fields=True)
    assert body["messages"][-1] == {"role": "assistant", "content": " Well, "}
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)
    assert len(request.messages) == 1
    with pytest.raises(DanteError, match="cannot continue"):
        Chat().body(request, GREEDY, words, vllm_fields=False)
    with pytest.raises(DanteError, match="no messages"):
        Chat().body(Request([1], 0), GREEDY, words, vllm_fields=True)


def test_reasoning_taken_out_of_the_answer_is_an_error() -> None:
    answer = chat("4", [b"hmm", b"4"])
    answer["choices"][0]["message"]["reasoning_content"] = "hmm"
    with pytest.raises(DanteError, match="reasoning parser"):
        Chat().read(answer, GREEDY, WITHOUT_TOKENIZER)
