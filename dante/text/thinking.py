"""One way to write thinking: native delimiters become `<think>` and `</think>` (DASD §3 [C] rewrites them, too).

| family | native |
|---|---|
| gpt-oss (harmony) | `<|channel|>analysis<|message|>…<|end|>` … `<|channel|>final<|message|>…` |
| Magistral | `[THINK]…[/THINK]` |
| Kimi | `◁think▷…◁/think▷` |
| Seed-OSS | `<seed:think>…</seed:think>` |
| others | `<thinking>…</thinking>`, `<reasoning>…</reasoning>` |

Thinking stands at the beginning of an answer, and there alone a delimiter is one: an answer that explains what
`<think>` means stays as it is [I]. Templates of DeepSeek and Qwen write `<think>` into the prompt, so their answers
begin inside the thinking: a closing tag without an opening one gets one in front. A closing tag in backticks is none.
Harmony answers with other channels (tools) stay as they are.
"""

import re
from collections.abc import Sequence

OPEN, CLOSE = "<think>", "</think>"
PAIRS = (
    (OPEN, CLOSE),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<seed:think>", "</seed:think>"),
)
CHANNEL = "<|channel|>"
# What stands between two messages of a harmony answer is its bookkeeping and goes with the delimiter.
HEADER = re.compile(r"(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>(analysis|final)<\|message\|>")
HARMONY_END = re.compile(r"(?:<\|(?:end|return)\|>)+\Z")
PARAGRAPH = "\n\n"

Cut = tuple[int, int, str]  # characters from, to; what stands there instead


def normalise_thinking(text: str) -> str:
    """The text with its thinking between `<think>` and `</think>`; one without thinking stays as it is. Idempotent."""
    return normalise_with_map(text, [])[0]


def normalise_with_map(text: str, offsets: Sequence[int]) -> tuple[str, list[int]]:
    """The rewritten text, and where byte offsets into the old one lie in the new one.

    Args:
        text: an answer.
        offsets: rising offsets into its UTF-8 bytes.

    Returns:
        The new text and as many offsets, rising; those inside a rewritten delimiter lie at its end. An opening tag
        that is put in front belongs to what was given: offset 0 lies behind it.
    """
    places = list(offsets)
    # A second round, where what a harmony answer holds is itself written in another family's delimiters.
    while cuts := _cuts(text):
        text, places = _apply(text, places, cuts)
    return text, places


def native_thinking(text: str, opening: str, closing: str) -> str:
    """A normalised text, or the beginning of one, with a model's own delimiters: what that model would have written.

    Args:
        text: an answer, or the beginning of one.
        opening: what stands there for `<think>`.
        closing: what stands there for `</think>`.
    """
    start = len(text) - len(text.lstrip())
    if not text.startswith(OPEN, start):
        return text
    begin = start + len(OPEN)
    end = _unquoted(text, CLOSE, begin)
    if end is None:
        return text[:start] + opening + text[begin:]
    return text[:start] + opening + text[begin:end] + closing + text[end + len(CLOSE) :]


def split_thinking(text: str) -> tuple[str | None, str]:
    """Thinking and answer of a normalised text; thinking that never ends has no answer, None is no thinking."""
    if not text.lstrip().startswith(OPEN):
        return None, text
    rest = text.lstrip().removeprefix(OPEN)
    end = _unquoted(rest, CLOSE, 0)
    return (rest, "") if end is None else (rest[:end], rest[end + len(CLOSE) :])


def _cuts(text: str) -> list[Cut]:
    start = len(text) - len(text.lstrip())
    if CHANNEL in text:
        return _harmony(text, start)
    for opening, closing in PAIRS:
        if text.startswith(opening, start):
            return [] if opening == OPEN else _pair(text, start, opening, closing)
    return _unopened(text)


def _pair(text: str, start: int, opening: str, closing: str) -> list[Cut]:
    begin = start + len(opening)
    end = _unquoted(text, closing, begin)
    return [(start, begin, OPEN), *([(end, end + len(closing), CLOSE)] if end is not None else [])]


def _unopened(text: str) -> list[Cut]:
    """The first closing tag, if no opening one of its family stands before it."""
    closing_tags = [
        (at, closing, opening) for opening, closing in PAIRS if (at := _unquoted(text, closing, 0)) is not None
    ]
    if not closing_tags:
        return []
    at, closing, opening = min(closing_tags)
    return [] if opening in text[:at] else [(0, 0, OPEN), (at, at + len(closing), CLOSE)]


def _unquoted(text: str, tag: str, start: int) -> int | None:
    """Where a tag stands for the first time without backticks around it."""
    for match in re.compile(re.escape(tag)).finditer(text, start):
        if not (text[: match.start()].endswith("`") and text.startswith("`", match.end())):
            return match.start()
    return None


def _harmony(text: str, start: int) -> list[Cut]:
    """Messages of analysis (joined as paragraphs), then at most one final message; anything else is left alone."""
    headers = list(HEADER.finditer(text))
    channels = [match[1] for match in headers]
    thoughts = channels.count("analysis")
    well_formed = (
        channels == ["analysis"] * thoughts + ["final"] * (len(channels) - thoughts) and len(channels) <= thoughts + 1
    )
    if not headers or headers[0].start() != start or not well_formed or len(channels) != text.count(CHANNEL):
        return []
    cuts = []
    for index, (match, channel) in enumerate(zip(headers, channels, strict=True)):
        at_first, later = (OPEN, PARAGRAPH) if channel == "analysis" else ("", CLOSE)
        cuts.append((match.start(), match.end(), later if index else at_first))
    ending = HARMONY_END.search(text, headers[-1].end())
    if ending:
        cuts.append((ending.start(), ending.end(), CLOSE if channels[-1] == "analysis" else ""))
    return cuts


def _apply(text: str, places: list[int], cuts: list[Cut]) -> tuple[str, list[int]]:
    """Replaces character ranges (in order, apart from each other) and moves byte offsets along."""
    pieces, moved, shifts = [], 0, []  # shifts: (old start, old end, new end) in bytes
    at = old = 0
    for start, end, new in cuts:
        kept = text[at:start]
        old += len(kept.encode("utf-8"))
        removed = len(text[start:end].encode("utf-8"))
        moved += len(new.encode("utf-8")) - removed
        shifts.append((old, old + removed, old + removed + moved))
        old += removed
        pieces += [kept, new]
        at = end
    return "".join([*pieces, text[at:]]), [_moved(place, shifts) for place in places]


def _moved(place: int, shifts: list[tuple[int, int, int]]) -> int:
    shift = 0
    for start, end, new_end in shifts:
        if place < start or place == start < end:
            break
        if place < end:
            return new_end
        shift = new_end - end
    return place + shift
