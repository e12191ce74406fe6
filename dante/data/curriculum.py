"""Curricula: in which order the cache's records are shown.

The DANTE-Mosaic-3.5B card says "records sorted by output_entropy, ascending" [C] and trains for about 5.8 passes, of
which one sorted order does not speak; what happens over several passes is therefore a choice of named definitions [I].

Two rules hold for every curriculum [I]:

- A budget that draws fewer records than the cache holds first takes a uniform sample without replacement and orders
  that sample: a sorted curriculum would otherwise only ever see the easiest records.
- Passes are balanced: where a curriculum makes whole passes, every record is drawn ⌊draws/records⌋ times or once
  more, and who is drawn once more is a uniform choice, not the easiest.

Entropy is in nats per token; equal entropies keep the cache's order. All is a function of (entropy, draws, seed).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int64

from dante.errors import DanteError


class Curriculum(ABC):
    """Orders record rows by difficulty."""

    @abstractmethod
    def order(self, entropy: Float[np.ndarray, " records"], draws: int, seed: int) -> Int64[np.ndarray, " draws"]:
        """Rows of the records to show, one per draw.

        Args:
            entropy: teacher's output entropy per record, nats per token.
            draws: how many records the budget shows, repetitions counted.
            seed: of every random choice.

        Raises:
            DanteError: there is no record, or an entropy is not finite.
        """


class _Arranged(Curriculum):
    """A curriculum that arranges a sample which holds every record of the cache, as long as the budget lasts."""

    def order(self, entropy: Float[np.ndarray, " records"], draws: int, seed: int) -> Int64[np.ndarray, " draws"]:
        if len(entropy) == 0:
            raise DanteError("there is no record to train on", where="cache", fix="loosen the cache's filters")
        if not np.isfinite(entropy).all():
            row = int(np.flatnonzero(~np.isfinite(entropy))[0])
            raise DanteError(f"output_entropy of record row {row} is {entropy[row]}", where="cache records")
        rng = np.random.default_rng(seed)
        rows = np.arange(len(entropy))
        if draws < len(rows):
            rows = np.sort(rng.choice(rows, size=draws, replace=False))
        if draws == 0:
            return rows.astype(np.int64)
        return rows[self._arrange(entropy[rows], draws, rng)].astype(np.int64)

    @abstractmethod
    def _arrange(
        self, entropy: Float[np.ndarray, " sample"], draws: int, rng: np.random.Generator
    ) -> Int64[np.ndarray, " draws"]:
        """Indices into the sample, `draws` of them; `draws` is never smaller than the sample."""


class SortedOnceRepeat(_Arranged):
    """One sorted pass over the whole budget; each record is shown R times in a row (R = draws / records) [I]."""

    def _arrange(
        self, entropy: Float[np.ndarray, " sample"], draws: int, rng: np.random.Generator
    ) -> Int64[np.ndarray, " draws"]:
        repeats, extra = divmod(draws, len(entropy))
        times = np.full(len(entropy), repeats)
        times[rng.choice(len(entropy), size=extra, replace=False)] += 1
        by_entropy = _easiest_first(entropy)
        return np.repeat(by_entropy, times[by_entropy])


class SortedEachEpoch(_Arranged):
    """Every pass is sorted; the last, incomplete pass sorts a uniform sample [I]."""

    def _arrange(
        self, entropy: Float[np.ndarray, " sample"], draws: int, rng: np.random.Generator
    ) -> Int64[np.ndarray, " draws"]:
        return np.concatenate([rows[_easiest_first(entropy[rows])] for rows in _passes(len(entropy), draws, rng)])


class BucketedShuffle(_Arranged):
    """Every pass goes through buckets of rising entropy; inside a bucket the order is random [I].

    Args:
        buckets: number of buckets of (almost) equal size; 1 is `Shuffled`.
    """

    def __init__(self, buckets: int) -> None:
        if buckets < 1:
            raise DanteError(f"buckets is {buckets}", where="fit.curriculum.buckets", allowed="1 or more")
        self.buckets = buckets

    def _arrange(
        self, entropy: Float[np.ndarray, " sample"], draws: int, rng: np.random.Generator
    ) -> Int64[np.ndarray, " draws"]:
        shuffled = []
        for rows in _passes(len(entropy), draws, rng):
            buckets = np.array_split(rows[_easiest_first(entropy[rows])], self.buckets)
            shuffled += [rng.permutation(bucket) for bucket in buckets]
        return np.concatenate(shuffled)


class Competence(_Arranged):
    """Draws uniformly, with replacement, from the easiest c(t) share of the records.

    Competence c(t) = min(1, (t·(1 − c₀ᵖ)/T + c₀ᵖ)^(1/p)) as in Platanios et al., "Competence-based Curriculum Learning
    for Neural Machine Translation" (2019), with p = 2 there [C]; here t is the share of the budget's draws that have
    been made [I], and T, `full_at`, the share after which all records are open.

    Args:
        initial: c₀, the share of records that is open at the start, in (0, 1].
        full_at: T, in (0, 1].
        power: p, above 0; 1 opens records linearly.
    """

    def __init__(self, initial: float | int, full_at: float | int, power: float | int) -> None:
        for name, value, upper in (("initial", initial, 1.0), ("full_at", full_at, 1.0), ("power", power, np.inf)):
            if not 0 < value <= upper:
                allowed = "above 0" if upper == np.inf else "above 0, at most 1"
                raise DanteError(f"{name} is {value}", where=f"fit.curriculum.{name}", allowed=allowed)
        self.initial, self.full_at, self.power = initial, full_at, power

    def competence(self, progress: Float[np.ndarray, " draws"]) -> Float[np.ndarray, " draws"]:
        """Share of records that is open after `progress` (0 to 1) of the draws."""
        start = self.initial**self.power
        grown: np.ndarray = (progress * (1 - start) / self.full_at + start) ** (1 / self.power)
        return np.minimum(1.0, grown)

    def _arrange(
        self, entropy: Float[np.ndarray, " sample"], draws: int, rng: np.random.Generator
    ) -> Int64[np.ndarray, " draws"]:
        open_records = np.ceil(self.competence(np.arange(draws) / draws) * len(entropy))
        picks = np.floor(rng.random(draws) * open_records).astype(np.int64)
        return _easiest_first(entropy)[picks]


class Shuffled(_Arranged):
    """Every pass in a random order of its own: the control."""

    def _arrange(
        self, entropy: Float[np.ndarray, " sample"], draws: int, rng: np.random.Generator
    ) -> Int64[np.ndarray, " draws"]:
        return np.concatenate([rng.permutation(rows) for rows in _passes(len(entropy), draws, rng)])


class Part(Curriculum):
    """A stretch of another curriculum's order: fits that follow each other share what one fit would draw [I].

    Args:
        whole: the curriculum that is divided.
        start: where the stretch begins, as a share of the whole order.
        end: where it ends; the next one's start.
    """

    def __init__(self, whole: Curriculum, start: float | int, end: float | int) -> None:
        if not 0 <= start < end <= 1:
            raise DanteError(
                f"the part from {start} to {end} is none",
                where="fit.curriculum.start",
                allowed="0 ≤ start < end ≤ 1",
                fix="start: 0, end: 0.5 is the first half",
            )
        self.whole, self.start, self.end = whole, float(start), float(end)

    def order(self, entropy: Float[np.ndarray, " records"], draws: int, seed: int) -> Int64[np.ndarray, " draws"]:
        """The `draws` of this stretch, out of a fit that draws 1 / (end − start) times as many."""
        whole_draws = max(draws, round(draws / (self.end - self.start)))
        first = min(round(whole_draws * self.start), whole_draws - draws)
        return self.whole.order(entropy, whole_draws, seed)[first : first + draws]


def _easiest_first(entropy: Float[np.ndarray, " some"]) -> Int64[np.ndarray, " some"]:
    return np.argsort(entropy, kind="stable")


def _passes(records: int, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The rows of each pass in the cache's order; the last pass is a uniform sample of what is left of the budget."""
    whole, rest = divmod(draws, records)
    for _ in range(whole):
        yield np.arange(records)
    if rest:
        yield np.sort(rng.choice(records, size=rest, replace=False))
