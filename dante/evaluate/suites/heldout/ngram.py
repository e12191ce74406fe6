"""Unigram and trigram language models: what counting the same training answers would have given.

A distilled student that does not beat a trigram fitted on its own training answers has learnt nothing that needs a
network. So both models here see the supervised tokens of all train records, in the student's own tokenizer (more than
a student sees whose budget draws only some of the records: the comparison favours counting), and are asked for exactly
the held-out tokens that the student is asked for, given the true context (the last prompt tokens included).

- Unigram: additive smoothing, `p(w) = (c(w) + alpha) / (N + alpha V)`, alpha chosen by leave-one-out likelihood.
- Trigram: interpolated modified Kneser-Ney (Chen and Goodman 1998, TR-10-98, section 3), the lowest order
  interpolated with the uniform distribution, so every token of the vocabulary has positive probability.

Counts are sorted arrays of integer keys: fitting is `np.unique`, a query is `np.searchsorted`, all vectorised.
Probabilities sum to one over the vocabulary in every context, seen or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

ALPHAS = np.logspace(-4, 1, 101)
# Absolute discount where there are too few counts of counts to estimate one (tiny data only).
FALLBACK_DISCOUNT = 0.75


@dataclass(frozen=True)
class Ngrams:
    """Supervised tokens of many records, each with the two tokens before it.

    Attributes:
        previous: the two preceding tokens, oldest first; `vocab` stands where the sequence has not begun.
        tokens: the supervised tokens.
        record: row of the record that each token belongs to.
    """

    previous: Int64[np.ndarray, "tokens 2"]
    tokens: Int64[np.ndarray, "tokens"]
    record: Int64[np.ndarray, "tokens"]


def collect(sequences: Sequence[tuple[Sequence[int], Sequence[bool]]], vocab: int) -> Ngrams:
    """Gather the supervised tokens of rendered records `(input_ids, supervised)` with their two predecessors."""
    previous, tokens, record = [], [], []
    for row, (input_ids, supervised) in enumerate(sequences):
        ids = np.asarray(input_ids, dtype=np.int64)
        mask: Bool[np.ndarray, length] = np.asarray(supervised, dtype=bool)
        padded = np.concatenate([np.full(2, vocab, dtype=np.int64), ids])
        previous.append(np.stack([padded[:-2], padded[1:-1]], axis=1)[mask])
        tokens.append(ids[mask])
        record.append(np.full(int(mask.sum()), row, dtype=np.int64))
    if not tokens:
        return Ngrams(np.empty((0, 2), np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
    return Ngrams(np.concatenate(previous), np.concatenate(tokens), np.concatenate(record))


class Unigram:
    """Additively smoothed token frequencies; the smoothing maximises the leave-one-out likelihood of the train tokens.

    Args:
        train: the train records' supervised tokens.
        vocab: size of the vocabulary the probabilities sum to one over.
    """

    def __init__(self, train: Ngrams, vocab: int) -> None:
        self.counts = np.bincount(train.tokens, minlength=vocab).astype(np.float64)
        total = self.counts.sum()
        seen = self.counts[self.counts > 0]
        # log p of a token when its own occurrence is taken out of the counts, summed over occurrences.
        likelihood = [
            (seen * np.log(seen - 1 + alpha)).sum() - total * np.log(max(total - 1, 0) + alpha * vocab)
            for alpha in ALPHAS
        ]
        self.alpha = float(ALPHAS[int(np.argmax(likelihood))])
        self._log_p = np.log(self.counts + self.alpha) - np.log(total + self.alpha * vocab)

    def log_p(self, test: Ngrams) -> Float64[np.ndarray, "tokens"]:
        """Natural-log probability of each token; the context is ignored."""
        return self._log_p[test.tokens]


class _Order:
    """One order of the interpolation: discounted counts of (context, word) and the mass left for the lower order."""

    def __init__(self, context: Int64[np.ndarray, "types"], word: Int64[np.ndarray, "types"], base: int,
                 counts: Int64[np.ndarray, "types"]) -> None:  # fmt: skip
        self.base = base
        discounts = _discounts(counts)
        order = np.argsort(context * base + word)
        self.keys = (context * base + word)[order]
        discount = discounts[np.minimum(counts, 3) - 1]
        self.kept = (counts - discount)[order]
        self.contexts, inverse = np.unique(context, return_inverse=True)
        self.totals = np.bincount(inverse, weights=counts, minlength=len(self.contexts))
        self.left = np.bincount(inverse, weights=discount, minlength=len(self.contexts))

    def interpolate(
        self,
        context: Int64[np.ndarray, "tokens"],
        word: Int64[np.ndarray, "tokens"],
        lower: Float64[np.ndarray, "tokens"],
    ) -> Float64[np.ndarray, "tokens"]:
        """Probability of `word` after `context`; a context that was never seen leaves everything to `lower`."""
        row, context_seen = _find(self.contexts, context)
        key, seen = _find(self.keys, context * self.base + word)
        kept = np.where(seen, self.kept[key], 0.0)
        return np.where(context_seen, (kept + self.left[row] * lower) / self.totals[row], lower)


class Trigram:
    """Interpolated modified Kneser-Ney of order three.

    Args:
        train: the train records' supervised tokens with their contexts; at least one token.
        vocab: size of the vocabulary the probabilities sum to one over.
    """

    def __init__(self, train: Ngrams, vocab: int) -> None:
        self.vocab = vocab
        base = self.base = vocab + 1  # `vocab` itself stands before the first token
        trigrams, counts = np.unique(self._pair(train.previous) * base + train.tokens, return_counts=True)
        self.third = _Order(trigrams // base, trigrams % base, base, counts)
        # Lower orders count in how many different contexts an n-gram was seen, not how often (Kneser and Ney 1995).
        bigrams, counts = np.unique(trigrams % (base * base), return_counts=True)
        self.second = _Order(bigrams // base, bigrams % base, base, counts)
        words, counts = np.unique(bigrams % base, return_counts=True)
        self.first = _Order(np.zeros_like(words), words, base, counts)

    def _pair(self, previous: Int64[np.ndarray, "tokens 2"]) -> Int64[np.ndarray, "tokens"]:
        return previous[:, 0] * self.base + previous[:, 1]

    def log_p(self, test: Ngrams) -> Float64[np.ndarray, "tokens"]:
        """Natural-log probability of each token given the two before it."""
        uniform = np.full(len(test.tokens), 1 / self.vocab)
        p = self.first.interpolate(np.zeros_like(test.tokens), test.tokens, uniform)
        p = self.second.interpolate(test.previous[:, 1], test.tokens, p)
        return np.log(self.third.interpolate(self._pair(test.previous), test.tokens, p))


def _find(
    keys: Int64[np.ndarray, "keys"], wanted: Int64[np.ndarray, "queries"]
) -> tuple[Int64[np.ndarray, "queries"], Bool[np.ndarray, "queries"]]:
    """Row of each wanted key in sorted `keys`, and whether it is there."""
    row = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return row, keys[row] == wanted


def _discounts(counts: Int64[np.ndarray, "types"]) -> Float64[np.ndarray, "3"]:
    """Discounts for counts 1, 2 and 3+ from the counts of counts (Chen and Goodman 1998, equation 26)."""
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if n1 == 0 or n2 == 0:
        return np.full(3, FALLBACK_DISCOUNT)
    y = n1 / (n1 + 2 * n2)
    single = np.full(3, y)  # plain absolute discounting
    if n3 == 0 or n4 == 0:
        return single
    modified = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    return modified if (modified > 0).all() and (modified <= [1, 2, 3]).all() else single
