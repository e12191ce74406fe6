"""Parts of the mixed policy: where an answer is cut, native delimiters, how long an epoch is."""

from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dante.cache.generate.requests import Renderer
from dante.cache.mixed.cut import beginning, cut_place
from dante.cache.mixed.samples import drawn, prompt_of
from dante.cache.mixed.stage import check_exact, off_policy
from dante.cache.records.record import Record
from dante.errors import DanteError
from dante.teachers.smoke import smoke_tokenizer
from dante.text.thinking import native_thinking, normalise_thinking
from dante.text.tokens.offsets import token_ends
from tests.test_offsets import KINDS, TEXTS

HARMONY = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>")


@given(count=st.integers(2, 400), begun=st.floats(0, 0.99), seed=st.integers(0, 5), name=st.text(max_size=8))
def test_a_cut_leaves_more_than_its_share_of_tokens_and_not_all(count: int, begun: float, seed: int, name: str) -> None:
    place = cut_place(name, list(range(1, count + 1)), begun, seed)
    assert 1 <= place < count
    assert place > begun * count or place == count - 1
    assert place == cut_place(name, list(range(1, count + 1)), begun, seed)


def test_every_place_beyond_half_is_equally_likely() -> None:
    places = Counter(cut_place(str(number), list(range(1, 11)), 0.5, 0) for number in range(4000))
    assert places.keys() == {6, 7, 8, 9}
    assert all(900 < count < 1100 for count in places.values())
    assert cut_place("a", list(range(1, 11)), 0.5, 0) != cut_place("a", list(range(1, 11)), 0.5, 3)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_a_cut_answer_is_whole_characters_and_the_beginning_of_the_answer(kind: str, text: str) -> None:
    tokenizer, bytes_of, dropped = KINDS[kind]
    ids = tokenizer.encode(text, add_special_tokens=False)
    decoded, ends = token_ends(tokenizer, ids)
    for tokens in range(1, len(ids)):
        kept = beginning(decoded, ends, tokens)
        assert decoded.startswith(kept)
        written = b"".join(map(bytes_of, tokenizer.convert_ids_to_tokens(ids[:tokens])))[dropped:]
        assert 0 <= len(written) - len(kept.encode()) < 4  # the part of a character that the last token holds


def test_a_smaller_number_of_prompts_is_part_of_a_larger_one() -> None:
    records = [Record(str(number), f"prompt {number % 12}", "text", 0.1) for number in range(24)]
    five, eight = ({record.id for record in drawn(records, count, 0)} for count in (5, 8))
    assert len(five) == 5
    assert five < eight
    assert len(drawn(records, None, 0)) == 12
    assert five != {record.id for record in drawn(records, 5, 1)}


def test_answers_beside_are_drawn_without_replacement() -> None:
    records = [Record(str(number), f"prompt {number}", "text", 0.1) for number in range(20)]
    seven = off_policy(records, 7, 0)
    assert len({record.id for record in seven}) == 7
    assert off_policy(records, 50, 0) == records
    assert off_policy(records, 7, 1) != seven


@pytest.mark.parametrize(
    ("text", "native"),
    [
        ("<think>Hm", HARMONY[0] + "Hm"),
        ("<think>Hm</think>Four", HARMONY[0] + "Hm" + HARMONY[1] + "Four"),
        ("Four", "Four"),
        ("`<think>` is a tag", "`<think>` is a tag"),
    ],
)
def test_a_teacher_goes_on_in_its_own_words(text: str, native: str) -> None:
    assert native_thinking(text, *HARMONY) == native
    assert normalise_thinking(native) == text


@pytest.mark.parametrize(("trims", "api", "refused"), [(True, "chat", True), (True, "completions", False),
                                                       (False, "chat", False)])  # fmt: skip
def test_a_server_whose_template_trims_cannot_go_on_exactly(
    tmp_path: Path, trims: bool, api: str, refused: bool
) -> None:
    tokenizer = smoke_tokenizer()
    template = str(tokenizer.chat_template)
    if trims:
        template = template.replace("message['content']", "message['content'] | trim")
        template = template.replace('message["content"]', 'message["content"] | trim')
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path)
    renderer = Renderer(str(tmp_path), None, None, 0, {})
    assert renderer.keeps_white_space() is not trims
    prompts = [prompt_of(Record("a", "Why?", "x", 0.1), "It is ")]
    with pytest.raises(DanteError, match="mixed.engine.api=completions") if refused else nullcontext():
        check_exact(api, renderer, prompts)
