"""Thinking delimiters: one way to write them, and byte offsets that follow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dante.cache.thinking import normalise_thinking, normalise_with_map, split_thinking

NATIVE = [
    "<|channel|>analysis<|message|>hm é<|end|><|start|>assistant<|channel|>final<|message|>Yes 👍<|return|>",
    "[THINK]hm é[/THINK]Yes 👍",
    "◁think▷hm é◁/think▷Yes 👍",
    "<seed:think>hm é</seed:think>Yes 👍",
    "<thinking>hm é</thinking>Yes 👍",
    "hm é</think>Yes 👍",
    "<think>hm é</think>Yes 👍",
]


@pytest.mark.parametrize("text", NATIVE)
def test_native_delimiters_are_rewritten(text: str) -> None:
    assert normalise_thinking(text) == "<think>hm é</think>Yes 👍"
    assert split_thinking(normalise_thinking(text)) == ("hm é", "Yes 👍")


def test_text_without_thinking_stays_and_open_thinking_has_no_answer() -> None:
    for text in ("Just an answer.", "a <b> c", "", "if x < 3: print('[x]')"):
        assert normalise_thinking(text) == text
        assert split_thinking(text) == (None, text)
    assert normalise_thinking("<|channel|>final<|message|>Yes") == "Yes"
    assert split_thinking("<think>and on and on") == ("and on and on", "")


@given(st.lists(st.sampled_from([*NATIVE, "x", " é", "👍\n", "</thinking>", "[THINK]", "<|end|>"]), max_size=5))
def test_idempotent_and_offsets_follow_the_text(parts: list[str]) -> None:
    text = "".join(parts)
    places = list(range(len(text.encode()) + 1))
    new, moved = normalise_with_map(text, places)
    assert normalise_thinking(new) == new
    assert moved == sorted(moved)
    assert moved[-1] == len(new.encode())
    old_bytes, new_bytes = text.encode(), new.encode()
    for a, x, y in zip(places, moved, moved[1:], strict=False):
        piece = new_bytes[x:y]
        if len(piece) == 1:  # a byte that is kept is the same byte at its new place
            assert piece == old_bytes[a : a + 1]
        else:  # gone, or the place of a delimiter
            assert piece.replace(b"<think>", b"").replace(b"</think>", b"") == b""
