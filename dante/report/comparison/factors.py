"""What a factor of a sweep changes, over all arms that differ in nothing else.

In a factorial sweep every arm says something about every factor. A factor's effect is the mean difference over all
pairs of arms that differ in its level alone: as many runs speak for it as there are pairs, so it is found where a
single pair of arms is undecided. Per seed the pairs are averaged, answer by answer; then it is judged like the
difference of two arms (`dante.statistics.crossed`), and corrected for the number of effects (Holm).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from dante.report.comparison.judge import CONFIDENCE, LEVEL, POWER, PRIMARY, Result, verdict_of
from dante.report.comparison.runs.arms import Arm
from dante.report.comparison.tables import Group
from dante.statistics.correction import holm
from dante.statistics.crossed import Effect, compare_ratios
from dante.statistics.power import detectable
from dante.statistics.ratio import Ratio

Levels = dict[str, str]


@dataclass(frozen=True)
class FactorEffect:
    """One level against another.

    Attributes:
        factor: its name in the sweep.
        level: what is compared. against: with what.
        pairs: how many pairs of arms differ in nothing else.
        effect: level minus against.
        p_corrected: over all effects of the table.
        detectable: see `Cell.detectable`.
        verdict: `better`, `worse`, `undecided`, or empty without a judgement.
    """

    factor: str
    level: str
    against: str
    pairs: int
    effect: Effect
    p_corrected: float | None = None
    detectable: float | None = None
    verdict: str = ""


def effects(group: Group, results: Sequence[Result]) -> list[FactorEffect]:
    """Effects of all factors on the primary metric; none where arms are no product of several factors.

    Args:
        group: arms that may be ranked together.
        results: of them; the primary one says in which direction better lies.
    """
    primary = next((result for result in results if result.primary), None)
    levels = {arm.name: arm.first.point.levels for arm in group.arms if arm.first.point.levels}
    varied = [name for name in _names(levels) if len({arm_levels.get(name) for arm_levels in levels.values()}) > 1]
    if primary is None or len(varied) < 2:
        return []
    arms = {arm.name: arm for arm in group.arms}
    factor_effects = []
    for factor in varied:
        for against, level in combinations(_ordered(levels, factor, group.baseline.name), 2):
            pairs = list(_pairs(levels, factor, level, against))
            effect = _effect([(arms[a], arms[b]) for a, b in pairs])
            if effect is not None:
                factor_effects.append(FactorEffect(factor, level, against, len(pairs), effect))
    return _corrected(factor_effects, primary)


def _names(levels: dict[str, Levels]) -> list[str]:
    return list(dict.fromkeys(name for arm_levels in levels.values() for name in arm_levels))


def _ordered(levels: dict[str, Levels], factor: str, baseline: str) -> list[str]:
    """All levels, the baseline's first: the others are compared with it."""
    baseline_level = levels.get(baseline, {}).get(factor)
    all_levels = [arm_levels[factor] for arm_levels in levels.values() if factor in arm_levels]
    return list(dict.fromkeys([*([baseline_level] if baseline_level is not None else []), *all_levels]))


def _pairs(levels: dict[str, Levels], factor: str, level: str, against: str) -> Iterator[tuple[str, str]]:
    by_levels = {tuple(sorted(arm_levels.items())): arm for arm, arm_levels in levels.items()}
    for arm, arm_levels in levels.items():
        other = by_levels.get(tuple(sorted({**arm_levels, factor: against}.items())))
        if arm_levels.get(factor) == level and other is not None:
            yield arm, other


def _effect(pairs: Sequence[tuple[Arm, Arm]]) -> Effect | None:
    """Over the seeds that all arms of all pairs have; None where there is no pair, no item, or no common seed."""
    if not pairs:
        return None
    arms = [arm for pair in pairs for arm in pair]
    common = set.intersection(*(set(arm.runs) for arm in arms))
    sides: list[dict[int, Ratio]] = []
    for side in zip(*pairs, strict=True):
        ratios = {seed: [_ratio(arm, seed) for arm in side] for seed in sorted(common)}
        if any(ratio is None for seed_ratios in ratios.values() for ratio in seed_ratios):
            return None
        sides.append(
            {
                seed: averaged([ratio for ratio in seed_ratios if ratio is not None])
                for seed, seed_ratios in ratios.items()
            }
        )
    if not common:
        return None
    return compare_ratios(*sides, confidence=CONFIDENCE)


def _ratio(arm: Arm, seed: int) -> Ratio | None:
    measured = arm.runs[seed].evaluation.student.get(PRIMARY)
    return measured.ratio if measured else None


def averaged(ratios: Sequence[Ratio]) -> Ratio:
    """Mean of one quantity over several arms, on the same items."""
    return Ratio(np.mean([ratio.numerator for ratio in ratios], axis=0), ratios[0].denominator)


def _corrected(factor_effects: list[FactorEffect], primary: Result) -> list[FactorEffect]:
    p = [factor_effect.effect.p if factor_effect.effect.covers != "items" else None for factor_effect in factor_effects]
    level = LEVEL / max(1, sum(value is not None for value in p))
    judged = []
    for factor_effect, corrected in zip(factor_effects, holm(p), strict=True):
        minimum_detectable = (
            detectable(factor_effect.effect.parts, level=level, power=POWER) if corrected is not None else None
        )
        verdict = verdict_of(factor_effect.effect, corrected, primary.how)
        judged.append(replace(factor_effect, p_corrected=corrected, detectable=minimum_detectable, verdict=verdict))
    return judged
