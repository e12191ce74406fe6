"""Byte offsets of tokens, for vocabularies that cut characters: byte-level ones, and ones that fall back to bytes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from dante.teachers.offsets import token_ends
from dante.teachers.smoke import smoke_tokenizer

# Letters of several scripts, emoji with skin tones and joiners, flags, combining marks, white space of several kinds.
HARD = [
    "a",
    "é",
    "e\u0301",
    "ñ",
    "👍🏽",
    "👩‍👩‍👧",
    "🇮🇹",
    "日",
    "한",
    "ع",
    "\u0308",
    "\u200d",
    " ",
    "  ",
    "\n",
    "\t",
    "x" * 20,
]


@pytest.fixture(scope="module")
def byte_level() -> Any:
    return smoke_tokenizer()


@pytest.fixture(scope="module")
def byte_fallback() -> Any:
    """Like SentencePiece's: pieces that begin with ▁ for a space, and a token for each byte that no piece covers."""
    pieces = [
        "<unk>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "a",
        "x",
        "é",
        "▁a",
        "xx",
        "xxxx",
        "日",
    ]
    merges = [("▁", "a"), ("x", "x"), ("xx", "xx")]
    model = models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


def check(tokenizer: Any, ids: list[int]) -> list[int]:
    text, ends = token_ends(tokenizer, ids)
    assert text == tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    data = text.encode("utf-8")
    assert len(ends) == len(ids)
    assert ends == sorted(ends)
    if ids:
        assert ends[-1] == len(data)
    for end in ends[:-1]:
        data[:end].decode("utf-8")  # never inside a character
    return ends


@settings(max_examples=150, deadline=None)
@given(text=st.lists(st.one_of(st.sampled_from(HARD), st.characters(codec="utf-8")), max_size=30).map("".join))
def test_byte_level_offsets_are_the_bytes_of_the_tokens(byte_level: Any, text: str) -> None:
    ids = byte_level.encode(text, add_special_tokens=False)
    ends = check(byte_level, ids)
    # Every beginning of the tokens decodes to that much text, wherever it ends with a whole character.
    for count, end in enumerate(ends, start=1):
        shown = byte_level.decode(ids[:count], clean_up_tokenization_spaces=False)
        if not shown.endswith("\ufffd"):
            assert len(shown.encode("utf-8")) == end


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_tokens_have_offsets(byte_level: Any, byte_fallback: Any, data: st.DataObject) -> None:
    """Also such as no text has: bytes that are no character, answers that were cut off inside one."""
    tokenizer = data.draw(st.sampled_from([byte_level, byte_fallback]))
    ids = data.draw(st.lists(st.integers(2, len(tokenizer) - 1), max_size=25))
    check(tokenizer, ids)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        (" a", [2]),
        ("aé", [1, 3]),
        ("👍", [0, 0, 0, 4]),  # four bytes: the last one completes the character
        ("a👍🏽x", [1, 1, 1, 1, 5, 5, 5, 5, 9, 10]),
        ("xxxx日 a", [4, 7, 9]),
    ],
)
def test_byte_fallback_offsets(byte_fallback: Any, text: str, ends: list[int]) -> None:
    pieces = text.replace(" ", "▁")
    ids = byte_fallback.backend_tokenizer.encode(pieces, add_special_tokens=False).ids
    found = check(byte_fallback, ids)
    stripped = 1 if text.startswith(" ") else 0  # the decoder drops the first space
    assert found == [max(0, end - stripped) for end in ends]
