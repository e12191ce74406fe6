"""Spans of two tokenizers over one text: they partition its bytes, and end where both have read the same."""

import os
import unicodedata
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given

from dante.models.gguf_file import SUFFIX
from dante.teachers.pocket import FILE as SMOLLM2
from dante.teachers.smoke_other import other_tokenizer
from dante.text.tokenizer import load_tokenizer
from dante.text.tokens.offsets import token_ends
from dante.text.tokens.spans import align, span_of_tokens, sums
from tests.test_offsets import FALLBACK, LEVEL, TEXTS

WORDS = other_tokenizer()
TOKENIZERS: dict[str, Any] = {"byte-level": LEVEL, "sentencepiece": FALLBACK, "words": WORDS}
PAIRS = [(a, b) for a in TOKENIZERS for b in TOKENIZERS if a != b]


@cache
def real(name: str) -> Any:
    """SmolLM2's tokenizer out of its package, Qwen's out of the file that DANTE_CODER_GGUF names."""
    return load_tokenizer(SMOLLM2 if name == "SmolLM2" else os.environ["DANTE_CODER_GGUF"])


def ends_of(name: str, text: str) -> list[int]:
    tokenizer = TOKENIZERS[name] if name in TOKENIZERS else real(name)
    decoded, ends = token_ends(tokenizer, tokenizer.encode(text, add_special_tokens=False))
    if name in TOKENIZERS:
        assert decoded == text
    assume(decoded == text)  # SmolLM2 has no token for some bytes
    return ends


def brute_force(ours: list[int], theirs: list[int], total: int) -> list[tuple[int, int, list[int], list[int]]]:
    """Byte by byte: a span ends where a token of either side ends; a token lies where its last new byte lies."""
    common = [place for place in range(1, total + 1) if place in ours and place in theirs]
    found, start = [], 0
    for end in common:
        found.append((start, end, members(ours, start, end, total), members(theirs, start, end, total)))
        start = end
    return found


def members(ends: list[int], start: int, end: int, total: int) -> list[int]:
    """Tokens that end between two places; those without bytes of their own end where their successor does."""
    inside, before = [], 0
    for index, place in enumerate(ends):
        written = place if place > before else next((later for later in ends[index:] if later > before), total)
        if start < written <= end:
            inside.append(index)
        before = place
    return inside


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
@given(text=TEXTS)
@example(text="👩‍👩‍👧 e\u0301 \r\n  日本語")
@example(text=" leading, and trailing ")
def test_spans_partition_the_bytes(pair: tuple[str, str], text: str) -> None:
    check_partition(pair, text)


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("DANTE_CODER_GGUF", "").endswith(SUFFIX), reason="DANTE_CODER_GGUF names no file"
)
@pytest.mark.parametrize("pair", [("SmolLM2", "Qwen"), ("Qwen", "sentencepiece")], ids=" and ".join)
@given(text=TEXTS.map(lambda text: unicodedata.normalize("NFC", text)).filter(lambda text: "<|" not in text))
@example(text="👩‍👩‍👧 \r\n  日本語 def f(n):\n\treturn n**2 # é")
@example(text=" leading, and trailing ")
def test_spans_of_real_tokenizers_partition_the_bytes(pair: tuple[str, str], text: str) -> None:
    """Qwen's reads NFC, so that other texts are not what its tokens decode to."""
    check_partition(pair, text)


def check_partition(pair: tuple[str, str], text: str) -> None:
    ours, theirs = (ends_of(name, text) for name in pair)
    total = len(text.encode("utf-8"))
    spans = align(ours, theirs, 0, total)
    expected = brute_force(ours, theirs, total)
    assert len(spans) == len(expected)
    if not text:
        return
    assert [(int(a), int(b)) for a, b in zip(spans.ends, spans.ends[1:], strict=False)] == [e[:2] for e in expected]
    assert (spans.ends[0], spans.ends[-1]) == (0, total)  # none left out, none twice
    for side, place in ((spans.ours, 2), (spans.theirs, 3)):
        got = [list(range(int(a), int(b))) for a, b in zip(side, side[1:], strict=False)]
        assert got == [e[place] for e in expected]
    raw = text.encode("utf-8")
    for place in spans.ends:
        raw[: int(place)].decode("utf-8")  # never inside a character


@given(text=TEXTS)
def test_a_tokenizer_and_itself_have_a_span_per_token_with_bytes(text: str) -> None:
    ends = ends_of("byte-level", text)
    spans = align(ends, ends, 0, len(text.encode("utf-8")))
    assert len(spans) == len({end for end in ends if end > 0})
    assert (spans.ours == spans.theirs).all()


def test_tokens_and_sums_of_a_case_by_hand() -> None:
    # ours:   th|e c|at       theirs: the| |ca|t      bytes 0 … 7
    spans = align([2, 5, 7], [3, 4, 6, 7], 0, 7)
    assert spans.ends.tolist() == [0, 7]
    spans = align([3, 5, 7], [3, 4, 6, 7], 0, 7)
    assert spans.ends.tolist() == [0, 3, 7]
    assert span_of_tokens(spans.ours, 3).tolist() == [0, 1, 1]
    assert sums(spans, [-1.0, -0.5, -0.25, -2.0]).tolist() == [-1.0, -2.75]  # a sum, no mean


def test_white_space_that_one_side_left_out_is_in_no_span() -> None:
    # Their text "\n\nab \n", ours "ab".
    assert align([3, 4], [2, 3, 4, 6], 2, 4).ends.tolist() == [2, 3, 4]
    assert align([3, 4], [2, 3, 4, 6], 2, 4).theirs.tolist() == [1, 2, 3]
    glued = align([3, 4], [3, 6], 2, 4)  # "\n\na" and "b \n" are tokens of theirs
    assert glued.ends.tolist() == [3]
    assert len(glued) == 0
    assert span_of_tokens(glued.ours, 2).tolist() == [-1, -1]
    half = align([3, 4], [1, 3, 4, 6], 2, 4)  # "\n", "\na", "b": what begins before us is not ours
    assert half.ends.tolist() == [3, 4]
    assert span_of_tokens(half.ours, 2).tolist() == [-1, 0]
    assert len(align([], [2], 0, 0)) == 0
    assert np.array_equal(span_of_tokens(align([], [], 0, 0).ours, 0), np.zeros(0, dtype=np.int64))
