"""Who beats whom: paired differences between any two models on the items that both were asked, and their verdicts.

A win counts only where its p-value is below 5 % after Holm's correction for all comparisons of the board. Items that
are right or wrong are judged by the exact test (`dante.statistics.exact`), any others by the t test over items
(`dante.statistics.crossed`); the interval is the paired bootstrap's (`dante.statistics.bootstrap`), uncorrected. All
of it speaks of these two models: another training seed is not covered.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from dante.evaluate.scoreboard.read import Items, Model, Score
from dante.look.metric import Metric
from dante.statistics.bootstrap import PairedDifference, paired_difference
from dante.statistics.correction import holm
from dante.statistics.crossed import compare_ratios
from dante.statistics.exact import mcnemar
from dante.statistics.ratio import Ratio

CONFIDENCE, LEVEL, RESAMPLES = 0.95, 0.05, 2_000
WIN, TIE, LOSS = "win", "tie", "loss"


@dataclass(frozen=True)
class Comparison:
    """Two models on one benchmark, over the items that both have.

    Attributes:
        a: label of the first. b: of the second.
        task: of the board.
        how: how the metric reads.
        paired: a − b with its interval.
        p: of no difference, before correction; None where nothing varies.
        p_corrected: for all comparisons of the board.
        verdict: of a: `win`, `tie` or `loss`.
    """

    a: str
    b: str
    task: str
    how: Metric
    paired: PairedDifference
    p: float | None
    p_corrected: float | None = None
    verdict: str = TIE


def compared(models: Sequence[Model], progress: Callable[[str], None] = lambda _: None) -> list[Comparison]:
    """Every pair of models on every benchmark that both were asked in one way, corrected together.

    Args:
        models: of the board; the first of a pair is the one that stands first.
        progress: told each benchmark before it is compared.
    """
    found: list[Comparison] = []
    for task in dict.fromkeys(task for model in models for task in model.scores):
        progress(task)
        found += _of_task(task, [model for model in models if task in model.scores])
    corrected = holm([comparison.p for comparison in found])
    judged = [replace(one, p_corrected=p) for one, p in zip(found, corrected, strict=True)]
    return [replace(one, verdict=_verdict(one)) for one in judged]


def _of_task(task: str, models: Sequence[Model]) -> Iterator[Comparison]:
    for a, b in combinations(models, 2):
        score_a, score_b = a.scores[task], b.scores[task]
        shared = _shared(score_a, score_b)
        if len(shared) > 1:
            ratios = _ratio(score_a.items, shared), _ratio(score_b.items, shared)
            paired = paired_difference(*ratios, resamples=RESAMPLES, confidence=CONFIDENCE, seed=0)
            yield Comparison(a.label, b.label, task, score_a.how, paired, _p(*ratios))


def _shared(a: Score, b: Score) -> list[str]:
    """Items with one id and one text, of models that were asked alike; a subset is compared on what both have."""
    alike = [replace(score.protocol, limit=None, n=0, items="") for score in (a, b)]
    if alike[0] != alike[1]:
        return []
    return [key for key, item in a.items.items() if key in b.items and b.items[key][0] == item[0]]


def _ratio(items: Items, chosen: Sequence[str]) -> Ratio:
    above, below = ([items[key][place] for key in chosen] for place in (1, 2))
    return Ratio(np.array(above, dtype=np.float64), np.array(below, dtype=np.float64))


def _p(a: Ratio, b: Ratio) -> float | None:
    if all(np.isin(x.numerator, (0.0, 1.0)).all() and (x.denominator == 1).all() for x in (a, b)):
        return mcnemar(a.numerator, b.numerator)
    return compare_ratios({0: a}, {0: b}, confidence=CONFIDENCE).p


def _verdict(one: Comparison) -> str:
    if one.p_corrected is None or one.p_corrected >= LEVEL or one.how.better not in ("higher", "lower"):
        return TIE
    return WIN if (one.paired.difference > 0) == (one.how.better == "higher") else LOSS
