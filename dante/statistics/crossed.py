"""Difference of two arms over training seeds and evaluated items, both of them random samples.

Runs with the same seed share their data order and runs on the same items share what makes an item hard, so differences
are taken within seed and item before anything is averaged. A ratio of totals (bits per byte) has no value per item; its
influence values stand for one: the mean over items is the run's ratio exactly, and their spread is the delta method's.

For paired differences d[s, i] of S seeds and I items, with the mean squares of a two-way layout without replication,

    Var(mean) = (MS_seed + MS_item − MS_residual) / (S·I),

which estimates σ²_seed/S + σ²_item/I + σ²_residual/(S·I): another set of seeds and another choice of items. Degrees of
freedom are Satterthwaite's. Where MS_residual exceeds one of the others, the larger of the two stands alone.

With two or three seeds MS_seed is often small by luck, and this test alone then finds too much: a difference in 7 % of
comparisons of equal runs at 3 seeds and in 11 % at 2 (experiments/statistics_calibration). So a difference has to hold
over the seeds alone as well (a t test on the runs' values, S − 1 degrees of freedom): the wider of the two intervals is
given, and the larger p-value [I]. That errs in 5.5 % and 4 %.

Sources: quasi-F, Clark (1973), "The language-as-fixed-effect fallacy", J. Verbal Learning and Verbal Behavior 12 [S];
Satterthwaite (1946), Biometrics Bulletin 2 [S]; Welch (1947), Biometrika 34 [S]; ratio: see `dante.statistics.ratio`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy import stats

from dante.statistics.ratio import Ratio

# A spread below this share of the values is what rounding leaves of none.
ROUNDING = 1e-12


class Part(NamedTuple):
    """An estimated variance of the mean and the degrees of freedom that it was estimated with."""

    variance: float
    df: float


@dataclass(frozen=True)
class Effect:
    """`a − b`, and how sure it is.

    Attributes:
        difference: mean over seeds of a's value minus b's; NaN where a total is zero.
        stderr: standard error; None where there is nothing to estimate it from.
        df: degrees of freedom of the t distribution that judges.
        low: lower end of the interval, or None.
        high: upper end, or None.
        p: two-sided p-value of no difference, or None.
        confidence: coverage of the interval.
        covers: what another sample of the interval covers: `seeds and items`, `seeds`, `items` or `nothing`.
        paired: whether runs were paired by their seed.
        seeds_a: runs of a that were used. seeds_b: of b.
        items: items of each run, 0 where there are none.
        parts: the tests that a difference has to pass, over seeds and items and over seeds alone. `stderr` and `df` are
            those of the one with the wider interval at this confidence; at a stricter level it may be the other.
        notes: what a reader has to know about this comparison.
    """

    difference: float
    stderr: float | None
    df: float | None
    low: float | None
    high: float | None
    p: float | None
    confidence: float
    covers: str
    paired: bool
    seeds_a: tuple[int, ...]
    seeds_b: tuple[int, ...]
    items: int
    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()


def compare_ratios(a: Mapping[int, Ratio], b: Mapping[int, Ratio], *, confidence: float) -> Effect:
    """Difference of a quantity over items between two arms.

    Args:
        a: seed → the quantity of that run; items in the same order in every run of both arms.
        b: the same of the other arm.
        confidence: coverage of the interval, in (0, 1).

    Raises:
        ValueError: an arm is empty, or runs have different numbers of items.
    """
    lengths = {len(ratio) for ratio in (*a.values(), *b.values())}
    if not a or not b or len(lengths) != 1:
        raise ValueError(
            f"arms need runs with the same items, not {sorted(lengths)} items in {len(a)} and {len(b)} runs"
        )
    items = lengths.pop()
    values = ({seed: run_ratio.value for seed, run_ratio in arm.items()} for arm in (a, b))
    mean_a, mean_b = values
    if items < 2 or not all(np.isfinite([*mean_a.values(), *mean_b.values()])):
        return compare_values(mean_a, mean_b, confidence=confidence)
    used_a, used_b, paired, notes = _seeds(a, b)
    per_run_a, per_run_b = (influence([arm[s] for s in used]) for arm, used in ((a, used_a), (b, used_b)))
    blocks = [per_run_a - per_run_b] if paired else [per_run_a, per_run_b]
    difference = float(per_run_a.mean() - per_run_b.mean())
    items_part = _of_mean(per_run_a.mean(axis=0) - per_run_b.mean(axis=0))
    seeds = [_of_mean(block.mean(axis=1)) for block in blocks if len(block) > 1]
    residuals = [_residual(block) for block in blocks if len(block) > 1]
    if len(seeds) < len(blocks):
        notes += ("one seed: the interval does not cover another seed",)
        parts, covers = [items_part], "items"
    else:
        parts, covers = [_crossed(seeds, items_part, residuals), _sum(seeds)], "seeds and items"
    return _effect(difference, parts, confidence, covers, paired, used_a, used_b, items, notes)


def compare_values(a: Mapping[int, float], b: Mapping[int, float], *, confidence: float) -> Effect:
    """Difference of a quantity with one number per run: a t test over seeds, paired where seeds are common.

    Args:
        a: seed → value of that run.
        b: the same of the other arm.
        confidence: coverage of the interval, in (0, 1).
    """
    used_a, used_b, paired, notes = _seeds(a, b)
    of_a, of_b = (np.array([arm[s] for s in used], dtype=np.float64) for arm, used in ((a, used_a), (b, used_b)))
    difference = float(of_a.mean() - of_b.mean())
    if not np.isfinite(difference):
        notes += ("nothing to divide by",)
        return _effect(float("nan"), [], confidence, "nothing", paired, used_a, used_b, 0, notes)
    blocks = [of_a - of_b] if paired else [of_a, of_b]
    if min(len(block) for block in blocks) < 2:
        notes += ("one seed and no items: no interval",)
        return _effect(difference, [], confidence, "nothing", paired, used_a, used_b, 0, notes)
    seeds = _sum([_of_mean(block) for block in blocks])
    return _effect(difference, [seeds], confidence, "seeds", paired, used_a, used_b, 0, notes)


def influence(runs: Sequence[Ratio]) -> Float64[np.ndarray, "seeds items"]:
    """Per run and item, what stands for the item's own ratio: the mean over items is the run's ratio.

    With R = ΣN/ΣD it is R + (N_i − R·D_i)·I/ΣD, the linearisation of the ratio [Cochran 1977, 2.11].
    """
    rows = []
    for run in runs:
        ratio, mean_size = run.value, float(run.denominator.mean())
        rows.append(ratio + (run.numerator - ratio * run.denominator) / mean_size)
    return np.stack(rows)


def _seeds(
    a: Mapping[int, object], b: Mapping[int, object]
) -> tuple[tuple[int, ...], tuple[int, ...], bool, tuple[str, ...]]:
    """Which runs are compared: the common seeds in pairs, or all of both arms where none is common."""
    common = tuple(sorted(a.keys() & b.keys()))
    if not common:
        return tuple(sorted(a)), tuple(sorted(b)), False, ("no common seed: not paired",)
    left_out = sorted(a.keys() ^ b.keys())
    notes = (f"only the common seeds: without {', '.join(map(str, left_out))}",) if left_out else ()
    return common, common, True, notes


def _of_mean(values: Float64[np.ndarray, "n"]) -> Part:
    """Variance of a mean of independent values."""
    return Part(float(values.var(ddof=1)) / len(values), len(values) - 1.0)


def _residual(block: Float64[np.ndarray, "seeds items"]) -> Part:
    """What neither seed nor item explains, as its share in the variance of the mean: MS_residual/(S·I)."""
    seeds, items = block.shape
    rest = block - block.mean(axis=1, keepdims=True) - block.mean(axis=0, keepdims=True) + block.mean()
    df = (seeds - 1.0) * (items - 1.0)
    return Part(float(np.square(rest).sum()) / df / (seeds * items), df)


def _sum(parts: Sequence[Part]) -> Part:
    """Sum of independent variances with Satterthwaite's degrees of freedom; of two arms' seeds: Welch."""
    total = sum(part.variance for part in parts)
    weight = sum(part.variance**2 / part.df for part in parts)
    return Part(total, total**2 / weight if weight else sum(part.df for part in parts))


def _crossed(seeds: Sequence[Part], items: Part, residuals: Sequence[Part]) -> Part:
    """Seeds + items − residual, which both of the others contain; never below the larger of the two."""
    seed, rest = _sum(seeds), sum(part.variance for part in residuals)
    total, larger = seed.variance + items.variance - rest, max(seed, items)
    if total <= larger.variance:
        return larger
    weight = sum(part.variance**2 / part.df for part in (*seeds, items, *residuals))
    return Part(total, total**2 / weight)


def _effect(
    difference: float, parts: Sequence[Part], confidence: float, covers: str, paired: bool,
    seeds_a: tuple[int, ...], seeds_b: tuple[int, ...], items: int, notes: tuple[str, ...],
) -> Effect:  # fmt: skip
    """The judgement of the part with the widest interval; none where nothing varies but the difference is there."""
    tail = (1 + confidence) / 2
    parts = [part for part in parts if np.sqrt(part.variance) > ROUNDING * abs(difference)] or parts
    widest = max(parts, key=lambda part: np.sqrt(part.variance) * stats.t.ppf(tail, part.df), default=None)
    stderr = df = low = high = p = None
    if widest is not None and np.sqrt(widest.variance) > ROUNDING * abs(difference):
        stderr, df = float(np.sqrt(widest.variance)), widest.df
        reach = stderr * float(stats.t.ppf(tail, df))
        low, high = difference - reach, difference + reach
        p = max(float(2 * stats.t.sf(abs(difference) / np.sqrt(variance), n)) for variance, n in parts)
    elif widest is not None and difference == 0:
        stderr, df, low, high, p = 0.0, widest.df, 0.0, 0.0, 1.0
    elif widest is not None:
        parts, notes = [], (*notes, "the difference is the same everywhere: no spread to judge it by")
    return Effect(difference, stderr, df, low, high, p, confidence, covers, paired, seeds_a, seeds_b, items,
                  tuple(parts), notes)  # fmt: skip
