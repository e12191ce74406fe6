"""Answers cut into the teacher's tokens, each with how much it surprised the teacher.

Surprisal is -log p of the token that was chosen, at temperature 1, in nats. Offsets count UTF-8 bytes, and a token may
end inside a character: such tokens are joined until the character is whole, and their surprisals are added, which is
the surprisal of the joined text.
"""

from collections.abc import Iterator
from typing import NamedTuple

from dante.cache.records.record import Record

# Upper ends of the colour steps, in nats; the last step is open. p = 0.90, 0.61, 0.37, 0.14, 0.05, 0.007.
STEPS_NATS = (0.1, 0.5, 1.0, 2.0, 3.0, 5.0)


class Piece(NamedTuple):
    """Text of one token, or of several that share a character.

    Attributes:
        text: never an empty string, unless the answer ends with tokens that add no text.
        surprisal: nats, or None where the record has no log-probabilities.
        tokens: how many.
    """

    text: str
    surprisal: float | None
    tokens: int

    @property
    def step(self) -> int:
        """Which of the colour steps, from 0; -1 without a surprisal."""
        return -1 if self.surprisal is None else sum(self.surprisal > limit for limit in STEPS_NATS)


def pieces(record: Record) -> Iterator[Piece]:
    """The pieces of an answer in order; joined they are the answer."""
    ends, logprobs = record.token_ends, record.token_logprobs
    if ends is None or logprobs is None:
        yield Piece(record.teacher_text, None, 0)
        return
    raw, start, count, surprisal = record.teacher_text.encode("utf-8"), 0, 0, 0.0
    for index, (end, logprob) in enumerate(zip(ends, logprobs, strict=True)):
        count, surprisal = count + 1, surprisal - min(logprob, 0.0)
        last = index + 1 == len(ends)
        # A byte 10xxxxxx continues a character: the piece would end inside it.
        inside = end < len(raw) and raw[end] & 0xC0 == 0x80
        if last or (end > start and not inside):
            yield Piece(raw[start:end].decode("utf-8"), surprisal, count)
            start, count, surprisal = end, 0, 0.0
