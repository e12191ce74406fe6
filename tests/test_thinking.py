"""Thinking delimiters: one way to write them, and byte offsets that follow."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dante.text.thinking import normalise_thinking, normalise_with_map, split_thinking

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


@pytest.mark.parametrize(
    "text",
    [
        "Use the `<thinking>` tag, then `</thinking>`.",
        "Write <think> first.",
        "Answer: <think>hm</think>Yes",  # not at the beginning
        "Fine.<|end|>",
        "The channel is <|channel|>analysis.",
        "<|channel|>commentary<|message|>I call a tool.<|end|><|start|>assistant<|channel|>final<|message|>Yes",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=f<|message|>{}<|call|>",
        "<|channel|>final<|message|>Yes<|end|><|start|>assistant<|channel|>analysis<|message|>too late",
    ],
)
def test_what_is_no_thinking_is_not_touched(text: str) -> None:
    assert normalise_thinking(text) == text
    assert split_thinking(text) == (None, text)


def test_a_mention_of_a_tag_does_not_end_thinking_of_another_family() -> None:
    text = "[THINK]I would write </thinking> here[/THINK]Yes"
    assert normalise_thinking(text) == "<think>I would write </thinking> here</think>Yes"
    assert split_thinking(normalise_thinking("hm, `</think>` ends it\n</think>\nYes")) == (
        "hm, `</think>` ends it\n",
        "\nYes",
    )


def test_harmony_messages() -> None:
    thought = "<|channel|>analysis<|message|>{}<|end|>"
    two = thought.format("a") + "<|start|>assistant" + thought.format("b")
    assert normalise_thinking(two + "<|start|>assistant<|channel|>final<|message|>Yes<|return|>") == (
        "<think>a\n\nb</think>Yes"
    )
    assert normalise_thinking(two) == "<think>a\n\nb</think>"
    assert split_thinking(normalise_thinking("<|channel|>analysis<|message|>and on")) == ("and on", "")
    assert normalise_thinking("<|channel|>final<|message|>[THINK]hm[/THINK]Yes") == "<think>hm</think>Yes"


def test_tokens_of_a_delimiter_share_its_end() -> None:
    text = "[THINK]é[/THINK]Y"
    ends = [1, 6, 7, 9, 10, 17, 18]  # "[", "THINK", "]", "é", "[", "/THINK]", "Y" in bytes
    assert normalise_with_map(text, ends) == ("<think>é</think>Y", [7, 7, 7, 9, 17, 17, 18])
    assert normalise_with_map("é</think>Y", [0, 2, 10, 11]) == ("<think>é</think>Y", [7, 9, 17, 18])


PIECES = [
    *NATIVE,
    *("x", " é", "👍\n", "`", "<think>", "</think>", "<thinking>", "</thinking>", "[THINK]", "[/THINK]", "<|end|>"),
    *("<|start|>assistant", "<|channel|>analysis<|message|>", "<|channel|>final<|message|>", "<|channel|>commentary"),
]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=6))
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
            assert re.sub(rb"</?think>|\n\n", b"", piece) == b""
