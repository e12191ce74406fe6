"""Sentences: they tile the text, and end where a reader would say that one ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dante.text.sentences import sentences

PIECES = st.sampled_from(
    ["A", "b", "C3", ". ", "! ", "? ", "…", "\n", "\n\n", "```\n", "$", "$$", "\\[", "\\]", "<think>", "</think>", "。"]
    + [
        "”",
        "é",
        "日本",
        "🙂",
        "3.14",
        "1. ",
        "- ",
        " ",
        "\t",
        "`",
        "e.g. ",
        "\\begin{align}",
        "\\end{align}",
        "\r\n",
        "A. ",
    ]
)


def parts(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_sentences_tile_the_text(text: str) -> None:
    found = sentences(text)
    assert "".join(text[start:end] for start, end in found) == text
    assert [span.start for span in found] == [0, *(span.end for span in found)][: len(found)]
    assert all(text[start:end].strip() for start, end in found) or not text.strip()
    begun = [(text[start - 1 : start], text[start]) for start, _ in found[1:]]
    assert all(not first.isspace() or before.splitlines() == [""] for before, first in begun)


@pytest.mark.parametrize(
    "expected",
    [
        # prose
        ["It is 3.14 m. ", "Is it? ", "Yes! ", "Well… ", "Then e.g. Bob, Dr. Smith and J. R. Tolkien came."],
        ["“Stop.” ", "He left (quickly.) ", "Then **it ended.** ", "So."],
        ["He paused... and went on. ", "It said etc. and so on."],
        ["See Fig. 3 and art. 5 on modern art. ", "He said no. ", "No. 7 came."],
        ["The answer is B. ", "Option A is wrong."],
        ["Visit https://example.org/a.b?c=d. ", "Run foo.bar() now."],
        ["One line\n", "another line\n\n\n", "a third"],
        # Italian
        ["Costa 3,50 euro. ", "È caro? ", "Sì, p. es. Il sig. Rossi lo dice. ", "“Basta!” ", "Fine."],
        # Chinese and Japanese
        ["这是第一句。", "“真的吗？”", "是的！", "好……再见"],
        ["今日は晴れ。\n", "明日も。"],
        # lists
        ["1. Take x. ", "Add 2.\n", "2. Stop.\n", "- a. b\n", "* **Bold.** ", "Rest\n", "> quoted. ", "More"],
        ["# 1. Title\n", "Text."],
        # formulas
        ["We get $a. B$ and \\(c. D\\). ", "It costs $5. ", "Then $6."],
        ["So\n", "\\[\nx = 1. \\\\\ny = 2\n\\]\n", "and $$\na. B\n$$ done.\n", "Next."],
        ["\\begin{align}\na &= b. \\\\[4pt]\nc &= d\n\\end{align}\n", "Done."],
        ["An open \\[ stays. ", "And goes on.\n", "Here."],
        # code
        ["Look:\n", "```python\n", "x = 1. \n", "    y = 'A. B'\n", "```\n", "Done. ", "Bye."],
        ["Use `a. B` here. ", "Then ``c ` D. E``."],
        ["```\n", "never. Closed\n", "x"],
        # thinking
        ["<think>\n", "Hm. ", "Wait.\n", "</think>\n\n", "It is 4."],
        ["<think>", "Short.", "</think>", "Answer."],
        ["a\r\n", "be. ", "C"],
    ],
)  # fmt: skip
def test_where_they_end(expected: list[str]) -> None:
    assert parts("".join(expected)) == expected


def test_nothing_and_white_space() -> None:
    assert sentences("") == []
    assert parts(" \n ") == [" \n "]
    assert parts("\n\nAm. Be. C\n ") == ["\n\nAm. ", "Be. ", "C\n "]


def test_a_fence_that_closes_in_its_line_opens_no_block() -> None:
    text = "```2 + 2 = 4``` is code. And so on.\nThe next one. It goes on.\n"
    found = [text[start:end] for start, end in sentences(text)]
    assert found == ["```2 + 2 = 4``` is code. ", "And so on.\n", "The next one. ", "It goes on.\n"]


def test_a_thinking_tag_in_backticks_ends_nothing() -> None:
    text = "Use `<think>` here. Then write."
    assert [text[start:end] for start, end in sentences(text)] == ["Use `<think>` here. ", "Then write."]
