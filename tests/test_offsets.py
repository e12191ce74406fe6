"""Token ends in UTF-8 bytes, against a reference that knows every token's bytes: byte-level and byte-fallback BPE."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from dante.teachers.smoke import smoke_tokenizer
from dante.text.tokens.offsets import token_ends

MERGES = [("t", "h"), ("th", "e"), ("i", "n"), ("e", "r"), ("▁", "the"), ("▁", "é"), ("▁", "▁"), ("n", "i")]


def byte_fallback_tokenizer() -> PreTrainedTokenizerFast:
    """As SentencePiece makes them (Llama 2, Mistral, Gemma): few characters, and 256 byte tokens for all others."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [*(chr(c) for c in range(33, 127)), "▁", "\u0301", "é", "日", *(a + b for a, b in MERGES)]
    core = Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate(pieces)},
            merges=MERGES,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def fallback_bytes(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x"):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode("utf-8")


def level_bytes(token: str) -> bytes:
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    alphabet = {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}
    return bytes(alphabet[c] for c in token)


LEVEL, FALLBACK = smoke_tokenizer(), byte_fallback_tokenizer()
KINDS: dict[str, tuple[Any, Callable[[str], bytes], int]] = {
    "byte-level": (LEVEL, level_bytes, 0),
    "byte-fallback": (FALLBACK, fallback_bytes, 1),  # decoding drops the space that stands for the beginning
}
# What breaks offsets: parts of characters, characters that join, and the replacement character as itself.
PIECES = st.sampled_from(
    [
        *("👍", "👍🏽", "👩‍👩‍👧", "🇮🇹", "❤️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "e\u0301", "n\u0303", "a\u0308\u0301", "\u0301", "\u200d", "\ufe0f"),
        *("日本", "العربية", "é", "ß", "\u00a0", "\u2028", "\ufffd", "\ufffd\ufffd", "\x00", "𝔘", "the", "in an"),
        *(" ", "  ", "\n", "\t", "<0x41>", "er ", "."),
    ]
)
SPECIAL = [*LEVEL.all_special_tokens, *FALLBACK.all_special_tokens]


def written_out(pieces: list[str]) -> str:
    """A text of plain words: U+2581 is a space in SentencePiece's vocabularies and comes back as one; a special token
    that a text spells out is one token, and decoding leaves it out as it leaves out all others."""
    text = "".join(pieces).replace("▁", " ")
    while found := next((special for special in SPECIAL if special in text), None):
        text = text.replace(found, "")
    return text


TEXTS = st.lists(PIECES | st.text(max_size=4), max_size=24).map(written_out)


def reference(pieces: list[bytes], dropped: int) -> list[int]:
    """A token ends where the last character that is complete with it does."""
    ends, seen = [], b""
    for piece in pieces:
        seen += piece
        ends.append(len(seen.decode("utf-8", errors="ignore").encode("utf-8")) - dropped)
    return [max(0, end) for end in ends]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_ends_are_those_of_the_tokens_bytes(kind: str, text: str) -> None:
    tokenizer, bytes_of, dropped = KINDS[kind]
    ids = tokenizer.encode(text, add_special_tokens=False)
    decoded, ends = token_ends(tokenizer, ids)
    assert decoded == text
    pieces = [bytes_of(token) for token in tokenizer.convert_ids_to_tokens(ids)]
    assert b"".join(pieces).decode("utf-8")[dropped:] == text  # the reference knows the bytes
    assert ends == reference(pieces, dropped if text else 0)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_tokens_give_offsets_of_the_decoded_text(kind: str, data: st.DataObject) -> None:
    # A sampled answer may hold byte tokens that never become characters.
    tokenizer = KINDS[kind][0]
    ids = data.draw(st.lists(st.integers(3, len(tokenizer) - 1), max_size=40))
    text, ends = token_ends(tokenizer, ids)
    raw = text.encode("utf-8")
    assert text == tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert len(ends) == len(ids)
    assert ends == sorted(ends)
    if ids:
        assert ends[-1] == len(raw)
        assert ends[0] >= 0
    for end in ends:
        raw[:end].decode("utf-8")  # never inside a character


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS, data=st.data())
def test_an_answer_cut_off_keeps_the_ends_of_what_is_complete(kind: str, text: str, data: st.DataObject) -> None:
    tokenizer, bytes_of, dropped = KINDS[kind]
    ids = tokenizer.encode(text, add_special_tokens=False)
    ids = ids[: data.draw(st.integers(0, len(ids)))]
    decoded, ends = token_ends(tokenizer, ids)
    pieces = [bytes_of(token) for token in tokenizer.convert_ids_to_tokens(ids)]
    complete = b"".join(pieces).decode("utf-8", errors="ignore")[dropped:]
    # The byte-fallback decoder spoils all characters of a run of byte tokens of which one is cut off.
    if decoded.startswith(complete):
        assert ends[:-1] == reference(pieces, dropped)[:-1]
    if ids:
        assert ends[-1] == len(decoded.encode("utf-8"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_special_token_that_a_text_spells_out_is_no_part_of_what_is_decoded(kind: str) -> None:
    tokenizer = KINDS[kind][0]
    ids = tokenizer.encode(f"the{tokenizer.eos_token}in", add_special_tokens=False)
    plain, ends = token_ends(tokenizer, ids)
    whole, all_ends = token_ends(tokenizer, ids, special=True)
    place = ids.index(tokenizer.eos_token_id)
    assert (plain.replace(" ", ""), whole.replace(" ", "")) == ("thein", f"the{tokenizer.eos_token}in")
    assert ends[place] == ends[place - 1]
    assert all_ends[place] - all_ends[place - 1] == len(tokenizer.eos_token)


def test_the_fallback_tokenizer_falls_back() -> None:
    tokens = FALLBACK.convert_ids_to_tokens(FALLBACK.encode("the 👍", add_special_tokens=False))
    assert tokens == ["▁the", "▁", "<0xF0>", "<0x9F>", "<0x91>", "<0x8D>"]
    _, ends = token_ends(FALLBACK, FALLBACK.convert_tokens_to_ids(tokens))
    assert ends == [3, 4, 4, 4, 4, 8]


def test_a_token_of_a_space_and_half_a_character_ends_behind_the_space() -> None:
    """As SmolLM2's vocabulary has them: " è" is cut inside the letter."""
    core = Tokenizer(
        models.BPE(
            vocab={"a": 0, "\u0120\u00c3": 1, "\u00a8": 2, "\u0120": 3, "\u00c3": 4}, merges=[("\u0120", "\u00c3")]
        )
    )
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    assert token_ends(tokenizer, [0, 1, 2, 0]) == ("a èa", [1, 2, 4, 5])
