"""A text in sentences: spans of characters that follow each other without a gap, the same for every reader.

What a sentence is, is decided by the text alone, from left to right; no tokenizer, language or model is asked [I; DASD,
arXiv 2601.09088, splits responses into sentences and does not say how]:

- every line break ends one: answers of language models break lines where something new begins (items, steps, verses);
- within a line of prose a stop does, with the quotes and brackets that close behind it, where white space and something
  that does not begin in lower case follow; stops of Chinese and Japanese need no white space;
- nothing ends inside inline code or a formula, and a displayed formula of several lines is one sentence;
- a line of a code block is one, and so is a thinking tag.

White space belongs to the sentence in front of it, so that indentation alone begins a line.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from dante.text.thinking import CLOSE, OPEN


class Sentence(NamedTuple):
    """Where a sentence stands, in characters of the text: `text[start:end]`."""

    start: int
    end: int


# Stops that want white space behind them, and those that do not.
_STOPS, _WIDE_STOPS = ".!?…‼⁇⁈⁉।؟۔", "。！？｡"
_CLOSERS = "\"'”’»›)]}）】》」』*_~`"
_END = re.compile(
    rf"(?P<stop>[{re.escape(_STOPS)}]+)[{re.escape(_CLOSERS)}]*(?P<gap>\s+)|[{_WIDE_STOPS}]+[{re.escape(_CLOSERS)}]*\s*"
)
# No end: a name or a sentence's rest follows.
_NAMES = """mr mrs ms dr prof st mt gen col sgt capt rev hon gov sen rep vs dept est e.g i.e cf viz al resp
    sig sigg sig.ra dott dott.ssa prof.ssa avv ing geom rag p es ad.es c.so p.zza v"""
# No end in front of a number.
_NUMBERED = "no nos nr n vol pp p pag pagg fig figs eq eqs sec secs ch cap art ref refs def thm prop tel approx ca"
# In front of a single capital letter: the letter is what the sentence says, not a first name.
_LETTERED = "is are be was option answer choice case point letter è opzione risposta caso punto lettera = :"
_ABBREVIATIONS, _BEFORE_NUMBERS, _SAYS_A_LETTER = (frozenset(s.split()) for s in (_NAMES, _NUMBERED, _LETTERED))
_WORD, _LONGEST_WORD = re.compile(r"(\S+)\s*$"), 40
# What a line may begin with and is no sentence: bullets, quotes, headings, and numbers of items.
_MARKER = re.compile(r"\s*(?:[-*+•·>#|]+\s+)*(?:\*\*|__)?(?:\(?(?:\d{1,4}|[A-Za-z]|[ivxIVX]{1,5})[.)]\s+)?")
# Inside these nothing ends. A dollar opens a formula where no space follows it, and closes one where no space stands
# before it and no digit behind it, as in pandoc: prices are none.
_PROTECTED = re.compile(
    r"(?P<tick>`+)(?:(?!`).)+?(?P=tick)(?!`)|\\\(.*?\\\)|\\\[.*?\\\]|\$\$.+?\$\$|(?<![\\$\w])\$(?=\S)(?:[^$\\]|\\.)+?(?<=\S)\$(?!\d)"
)
_FENCE = re.compile(r"\s*(?:[-*+]\s+|\d{1,4}[.)]\s+)?(?P<fence>`{3,}(?![^\n]*`)|~{3,})")
_DISPLAYS = (
    (re.compile(r"(?<!\\)\\\["), re.compile(r"\\\]")),
    (re.compile(r"\$\$"), re.compile(r"\$\$")),
    (re.compile(r"\\begin\{(?:align|equation|gather|multline|array|[bpvBV]?matrix|cases|split|aligned)\*?\}"),
     re.compile(r"\\end\{(?:align|equation|gather|multline|array|[bpvBV]?matrix|cases|split|aligned)\*?\}")),
)  # fmt: skip
_TAGS = re.compile(rf"(?:{re.escape(OPEN)}|{re.escape(CLOSE)})\s*")


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text, in order: the first begins at 0, each next one where the one before ends.

    An empty text has none, one of white space alone has one.
    """
    ends: list[int] = []
    for end in (*_ends(text), len(text)):
        start = ends[-1] if ends else 0
        if not text[start:end].strip():  # white space belongs to what stands in front of it
            if ends:
                ends[-1] = end
            continue
        ends.append(end)
    if text and not ends:
        ends = [len(text)]
    return [Sentence(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _ends(text: str) -> Iterator[int]:
    """Where sentences end, rising; some of them may hold nothing but white space."""
    fence, display_until, start = "", 0, 0
    for line in text.splitlines(keepends=True):
        end = start + len(line)
        if found := _FENCE.match(line):
            if not fence:
                fence = found["fence"]
            elif found["fence"].startswith(fence) and not line[found.end() :].strip():
                fence = ""
        elif not fence and end > display_until:
            display_until = max(display_until, _end_of_display(text, start, end))
            if display_until <= end:
                yield from (start + place for place in _within(line))
        if end >= display_until:
            yield end
        start = end


def _end_of_display(text: str, start: int, end: int) -> int:
    """Where the line ends in which a formula is closed that this line opens and does not close; else 0."""
    line = _PROTECTED.sub(lambda found: " " * len(found[0]), text[start:end])
    for opening, closing in _DISPLAYS:
        opened = [found.end() for found in opening.finditer(line)]
        if not opened or closing.search(line, opened[-1]):
            continue
        if opening.pattern == closing.pattern and len(opened) % 2 == 0:
            continue
        closed = closing.search(text, end)
        if closed:
            line_end = text.find("\n", closed.end())
            return len(text) if line_end < 0 else line_end + 1
    return 0


def _within(line: str) -> Iterator[int]:
    """Where sentences end within a line, its end left out."""
    protected = [found.span() for found in _PROTECTED.finditer(line)]
    marker = _MARKER.match(line)
    first = marker.end() if marker else 0
    tags = [found.span() for found in _TAGS.finditer(line) if not any(a <= found.start() < b for a, b in protected)]
    places = {place for span in tags for place in span}
    for found in _END.finditer(line):
        if found.start() < first or any(a <= found.start() < b for a, b in protected):
            continue
        if found["stop"] is None or _ends_here(line, found):
            places.add(found.end())
    yield from sorted(place for place in places if 0 < place < len(line))


def _ends_here(line: str, found: re.Match[str]) -> bool:
    """Whether a stop that white space follows ends a sentence."""
    following = line[found.end() : found.end() + 1]
    if not following or following.islower():
        return False
    if found["stop"] != ".":
        return True
    before = _last_word(line, found.start())
    word = before[1].lstrip("\"'“‘«([{*_") if before else ""
    if word.lower() in _ABBREVIATIONS or (word.lower() in _BEFORE_NUMBERS and following.isdigit()):
        return False
    if len(word) == 1 and word.isupper() and word != "I":  # a first name, unless the sentence names a letter
        said = _last_word(line, found.start() - len(before[0])) if before else None
        return said is not None and said[1].lower().strip("*_(") in _SAYS_A_LETTER
    return True


def _last_word(line: str, end: int) -> re.Match[str] | None:
    """The word that stands before a place of the line; a longer one than any abbreviation is cut."""
    return _WORD.search(line[max(0, end - _LONGEST_WORD) : end])
