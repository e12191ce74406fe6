"""One way to write thinking: native delimiters become `<think>` and `</think>` (DASD §3 [C] rewrites them, too).

| family | native |
|---|---|
| gpt-oss (harmony) | `<|channel|>analysis<|message|>…<|end|>` … `<|channel|>final<|message|>…` |
| Magistral | `[THINK]…[/THINK]` |
| Kimi | `◁think▷…◁/think▷` |
| Seed-OSS | `<seed:think>…</seed:think>` |
| others | `<thinking>…</thinking>`, `<reasoning>…</reasoning>` |

Templates of DeepSeek and Qwen write `<think>` into the prompt, so their answers begin inside the thinking: a closing
tag without an opening one gets one in front.
"""

import re
from collections.abc import Sequence

OPEN, CLOSE = "<think>", "</think>"
# What stands between two channels of a harmony answer is its bookkeeping and goes with the delimiter.
_START = r"(?:<\|start\|>assistant)?"
RULES = (
    (re.compile(rf"^{_START}<\|channel\|>final<\|message\|>"), ""),
    (re.compile(rf"{_START}<\|channel\|>analysis<\|message\|>"), OPEN),
    (re.compile(rf"<\|end\|>{_START}<\|channel\|>final<\|message\|>"), CLOSE),
    (re.compile(r"(?:<\|(?:end|return)\|>)+\Z"), ""),
    (re.compile(r"<thinking>|<reasoning>|\[THINK\]|◁think▷|<seed:think>"), OPEN),
    (re.compile(r"</thinking>|</reasoning>|\[/THINK\]|◁/think▷|</seed:think>"), CLOSE),
)


def normalise_thinking(text: str) -> str:
    """The text with its thinking between `<think>` and `</think>`; one without thinking stays as it is. Idempotent."""
    return normalise_with_map(text, [])[0]


def normalise_with_map(text: str, offsets: Sequence[int]) -> tuple[str, list[int]]:
    """The rewritten text, and where byte offsets into the old one lie in the new one.

    Args:
        text: an answer.
        offsets: rising offsets into its UTF-8 bytes.

    Returns:
        The new text and as many offsets, rising; those inside a rewritten delimiter lie at its end.
    """
    places = list(offsets)
    for pattern, replacement in RULES:
        cuts = [(match.start(), match.end(), replacement) for match in pattern.finditer(text)]
        text, places = _apply(text, places, cuts)
    if CLOSE in text and OPEN not in text[: text.index(CLOSE)]:
        text, places = _apply(text, places, [(0, 0, OPEN)])
    return text, places


def split_thinking(text: str) -> tuple[str | None, str]:
    """Thinking and answer of a normalised text; thinking that never ends has no answer, None is no thinking."""
    before, opened, rest = text.partition(OPEN)
    if not opened:
        return None, text
    thinking, closed, answer = rest.partition(CLOSE)
    return thinking, before + answer if closed else ""


def _apply(text: str, places: list[int], cuts: list[tuple[int, int, str]]) -> tuple[str, list[int]]:
    """Replaces character ranges (in order, apart from each other) and moves byte offsets along."""
    if not cuts:
        return text, places
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
