"""When an answer has run into a loop: a small model's greedy decoding often repeats itself until the token limit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RepetitionLimit:
    """An answer ends with finish reason `repetition` when its last tokens are one pattern, `count` times in a row.

    Attributes:
        min_tokens: shortest pattern (short ones are legitimate: rows of zeros, rules of dashes).
        max_tokens: longest pattern.
        count: repetitions that end the answer.
    """

    min_tokens: int
    max_tokens: int
    count: int


def repeats(token_ids: list[int], limit: RepetitionLimit) -> bool:
    """True when the answer's end is a loop."""
    for size in range(limit.min_tokens, limit.max_tokens + 1):
        span = size * limit.count
        if span > len(token_ids):
            return False
        tail = token_ids[-span:]
        if tail[size:] == tail[:-size]:
            return True
    return False
