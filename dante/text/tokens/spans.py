"""Spans: the pieces of a text at whose ends the tokens of two tokenizers end together.

Both models have read the same bytes there, so what one says of a span can be held against what the other says,
whatever their tokens are. Pure arithmetic on where tokens end in UTF-8 bytes (`dante.text.tokens.offsets`), never on
characters or on decoded pieces. As in ALM's byte-aligned chunks (arXiv 2503.20083 [C]).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class Spans:
    """A text's spans, in order; span k lies between the boundaries k and k + 1.

    Attributes:
        ends: the boundaries in bytes, the beginning of the first span first.
        ours: tokens of one side before each boundary.
        theirs: tokens of the other side before each boundary.
    """

    ends: Int64[np.ndarray, "boundaries"]
    ours: Int64[np.ndarray, "boundaries"]
    theirs: Int64[np.ndarray, "boundaries"]

    def __len__(self) -> int:
        return len(self.ends) - 1


def align(ours: Sequence[int], theirs: Sequence[int], begin: int, total: int) -> Spans:
    """The finest spans of the bytes `begin` to `total` that both sides' tokens are made of.

    A token without bytes of its own (part of a character that a later token completes) belongs to the span in which
    its character ends; behind the last character, to the last span. Where a side's tokens do not end at `begin` or at
    `total` (one of them left white space out), the bytes before the first and behind the last common place are in no
    span.

    Args:
        ours: where each token of one side ends, in bytes of the text, never falling; its text begins at `begin`.
        theirs: where each token of the other side ends; its text begins at 0.
        begin: where the side that may have left out bytes begins.
        total: bytes of the text of that side and what is before it.

    Returns:
        the spans; without one common place none at all.
    """
    our_ends, their_ends = np.asarray(ours, dtype=np.int64), np.asarray(theirs, dtype=np.int64)
    places = np.intersect1d(our_ends, their_ends)
    places = places[(places > begin) & (places <= total)]
    starts_together = begin == 0 or begin in their_ends
    ends = np.concatenate([[begin], places]) if starts_together else places
    counts = [np.searchsorted(side, ends, side="left") + 1 for side in (our_ends, their_ends)]
    if starts_together:
        counts[0][0] = 0  # nothing of ours lies before our beginning
        if begin == 0:
            counts[1][0] = 0
    spans = Spans(ends.astype(np.int64), *(count.astype(np.int64) for count in counts))
    if len(places) and places[-1] == total:
        # What comes behind the last character has no bytes and no span of its own.
        for side, before in ((our_ends, spans.ours), (their_ends, spans.theirs)):
            before[-1] = np.searchsorted(side, total, side="right")
    return spans


def span_of_tokens(before: Int64[np.ndarray, "boundaries"], tokens: int) -> Int64[np.ndarray, " tokens"]:
    """Which span each token of a side is in; −1 for those in none.

    Args:
        before: `Spans.ours` or `Spans.theirs`.
        tokens: how many that side has.
    """
    found = np.searchsorted(before, np.arange(tokens), side="right") - 1
    return np.where((found >= 0) & (found < len(before) - 1), found, -1).astype(np.int64)


def sums(spans: Spans, values: Sequence[float]) -> np.ndarray:
    """The sum over each span of a value per token of the other side, in float64."""
    running = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=np.float64))])
    return running[spans.theirs[1:]] - running[spans.theirs[:-1]]
