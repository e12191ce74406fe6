"""Comparisons of real runs with themselves, and with a planted effect: how often a difference is reported.

The pool is one arm trained with 24 seeds (`experiments/statistics_calibration/pool.py`), 240 held-out answers each, as
at the default design. Two disjoint groups of its seeds on one resampling of its answers differ by chance alone.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from dante.statistics.bootstrap import seeds_difference
from dante.statistics.crossed import Effect, compare_ratios
from dante.statistics.ratio import Ratio

POOL = json.loads((Path(__file__).parent / "fixtures" / "seeds_pool.json").read_text())
BITS, BYTES = np.array(POOL["bits"]), np.array(POOL["bytes"], dtype=np.float64)
DRAWS = 200
Group = list[Ratio]


def two_groups(rng: np.random.Generator, seeds: int, planted: float = 0.0) -> tuple[Group, Group]:
    """Disjoint seeds and answers drawn with replacement; `planted` bits per byte are added to every answer of one."""
    runs = rng.permutation(len(BITS))[: 2 * seeds]
    answers = rng.integers(len(BYTES), size=len(BYTES))
    size = BYTES[answers]
    return [Ratio(BITS[run][answers] + planted * size, size) for run in runs[:seeds]], [
        Ratio(BITS[run][answers], size) for run in runs[seeds:]
    ]


def compared(groups: tuple[Group, Group]) -> Effect:
    a, b = (dict(enumerate(group)) for group in groups)
    return compare_ratios(a, b, confidence=0.95)


def found(seeds: int, planted: float = 0.0) -> float:
    """Share of draws in which a difference is reported at the 5 % level."""
    rng = np.random.default_rng(0)
    effects = [compared(two_groups(rng, seeds, planted)) for _ in range(DRAWS)]
    return float(np.mean([one.p is not None and one.p < 0.05 for one in effects]))


def spread_of_an_answer() -> float:
    """Standard deviation over answers of the difference, in bits per byte, between two runs: mean over pairs."""
    per_byte = BITS / BYTES
    ratios = BITS.sum(axis=1) / BYTES.sum()
    weight = BYTES / BYTES.mean()
    own = (per_byte - ratios[:, None]) * weight + ratios[:, None]
    pairs = [(own[i] - own[j]).std(ddof=1) for i in range(len(own)) for j in range(i)]
    return float(np.mean(pairs))


def spread_of_a_seed() -> float:
    """Standard deviation of the difference between two runs over pairs of seeds."""
    return float(np.sqrt(2) * np.std(BITS.sum(axis=1) / BYTES.sum(), ddof=1))


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_equal_runs_are_told_apart_at_most_7_percent_of_the_time(seeds: int) -> None:
    assert found(seeds) <= 0.07


def test_the_bootstrap_over_few_seeds_tells_equal_runs_apart_far_too_often() -> None:
    """Why its interval is shown and does not judge."""
    rng = np.random.default_rng(0)
    hits = 0
    for draw in range(DRAWS):
        one = seeds_difference(*two_groups(rng, 3), resamples=500, confidence=0.95, seed=draw)
        hits += not one.low <= 0 <= one.high
    assert hits / DRAWS > 0.12


def test_an_effect_of_one_standard_deviation_of_an_answer_is_found_at_the_default_design() -> None:
    """3 seeds, 240 answers; the standard deviation is that of one answer's difference in one pair of runs."""
    assert found(3, spread_of_an_answer()) >= 0.8
    assert found(3, -spread_of_an_answer()) >= 0.8


def test_an_effect_of_one_standard_deviation_between_seeds_needs_ten_seeds() -> None:
    """With three seeds nobody can see it: that is a property of the design, and it is stated, not hidden."""
    assert found(3, spread_of_a_seed()) < 0.4
    assert found(10, spread_of_a_seed()) > 0.75
