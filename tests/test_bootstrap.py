"""Intervals for bits per byte: agreement with scipy, and coverage where the truth is known."""

import numpy as np
import pytest
import scipy.stats

from dante.statistics.bootstrap import PairedDifference, paired_difference, seeds_difference
from dante.statistics.ratio import Ratio, mean


def items(rng: np.random.Generator, n: int, effect: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two models on n answers of unequal length; what makes an answer hard for one makes it hard for the other."""
    text_bytes = rng.integers(100, 800, size=n)
    difficulty = rng.normal(1.0, 0.3, size=n)
    bits_b = text_bytes * (difficulty + rng.normal(0, 0.05, size=n))
    bits_a = text_bytes * (difficulty + effect + rng.normal(0, 0.05, size=n))
    return bits_a, bits_b, text_bytes


def paired_bootstrap(
    bits_a: np.ndarray, bits_b: np.ndarray, text_bytes: np.ndarray, *, resamples: int, confidence: float, seed: int
) -> PairedDifference:
    size = text_bytes.astype(np.float64)
    return paired_difference(
        Ratio(bits_a, size), Ratio(bits_b, size), resamples=resamples, confidence=confidence, seed=seed
    )


def test_agrees_with_scipy() -> None:
    bits_a, bits_b, text_bytes = items(np.random.default_rng(0), 80, effect=-0.03)
    mine = paired_bootstrap(bits_a, bits_b, text_bytes, resamples=20_000, confidence=0.9, seed=1)

    def difference(a: np.ndarray, b: np.ndarray, size: np.ndarray, axis: int) -> np.ndarray:
        return a.sum(axis) / size.sum(axis) - b.sum(axis) / size.sum(axis)

    theirs = scipy.stats.bootstrap(
        (bits_a, bits_b, text_bytes),
        difference,
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert mine.low == pytest.approx(theirs.confidence_interval.low, abs=0.03 * width)
    assert mine.high == pytest.approx(theirs.confidence_interval.high, abs=0.03 * width)
    assert mine.stderr == pytest.approx(theirs.standard_error, rel=0.03)
    assert mine.difference == pytest.approx(difference(bits_a, bits_b, text_bytes, 0))


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(400):
        interval = paired_bootstrap(*items(rng, 60, effect=-0.02), resamples=500, confidence=0.9, seed=trial)
        hits += interval.low <= -0.02 <= interval.high
    assert 0.85 <= hits / 400 <= 0.95


def test_pairing_removes_what_is_hard_for_both() -> None:
    bits_a, bits_b, text_bytes = items(np.random.default_rng(4), 200, effect=-0.03)
    interval = paired_bootstrap(bits_a, bits_b, text_bytes, resamples=2000, confidence=0.95, seed=0)
    size = text_bytes.astype(np.float64)
    each = Ratio(bits_a, size).stderr, Ratio(bits_b, size).stderr
    assert all(each)
    assert interval.high < 0
    assert interval.stderr < np.hypot(*each) / 3


def test_same_model_differs_by_nothing_and_the_seed_decides_the_rest() -> None:
    bits_a, bits_b, text_bytes = items(np.random.default_rng(5), 30)
    same = paired_bootstrap(bits_a, bits_a, text_bytes, resamples=100, confidence=0.95, seed=0)
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    runs = [paired_bootstrap(bits_a, bits_b, text_bytes, resamples=200, confidence=0.95, seed=s) for s in (7, 7, 8)]
    assert runs[0] == runs[1] != runs[2]


def test_stderr_matches_the_spread_over_fresh_samples() -> None:
    rng = np.random.default_rng(6)
    samples = [Ratio(bits, size.astype(np.float64)) for bits, _, size in (items(rng, 50) for _ in range(2000))]
    spread = np.std([sample.value for sample in samples])
    claimed = np.mean([sample.stderr for sample in samples if sample.stderr is not None])
    assert claimed == pytest.approx(spread, rel=0.05)


def test_a_single_item_has_no_stderr() -> None:
    assert Ratio(np.array([3.0]), np.array([2.0])).stderr is None


def test_a_mean_s_stderr_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(size=40)
    assert mean(values).stderr == pytest.approx(scipy.stats.sem(values))


def test_models_with_denominators_of_their_own_are_compared() -> None:
    """Accuracy per token of two tokenizers: the denominators differ, the items are the same."""
    rng = np.random.default_rng(1)
    tokens_a, tokens_b = rng.integers(5, 50, size=(2, 60)).astype(np.float64)
    a, b = Ratio(rng.binomial(tokens_a.astype(int), 0.6) * 1.0, tokens_a), Ratio(0.5 * tokens_b, tokens_b)
    found = paired_difference(a, b, resamples=2000, confidence=0.95, seed=0)
    assert found.difference == pytest.approx(a.value - 0.5)
    assert found.low < found.difference < found.high
    assert found.stderr == pytest.approx(a.stderr, rel=0.15)


def test_an_interval_over_seeds_covers_another_seed_and_one_over_items_does_not() -> None:
    """Runs of a seed differ by a shift of their own: with the items alone the interval is far too narrow."""
    rng = np.random.default_rng(2)
    hits_seeds = hits_items = 0
    for trial in range(150):
        size = rng.integers(100, 800, size=80).astype(np.float64)
        shift = rng.normal(0, 0.05, size=12)  # of each seed, in bits per byte
        base = size * rng.normal(1.0, 0.3, size=80)
        a = [Ratio(base + size * (s + rng.normal(0, 0.05, size=80)), size) for s in shift]
        b = [Ratio(base + size * rng.normal(0, 0.05, size=80), size) for _ in shift]
        over_seeds = seeds_difference(a, b, resamples=400, confidence=0.9, seed=trial)
        over_items = paired_difference(a[0], b[0], resamples=400, confidence=0.9, seed=trial)
        hits_seeds += over_seeds.low <= 0 <= over_seeds.high
        hits_items += over_items.low <= 0 <= over_items.high
    assert 0.8 <= hits_seeds / 150 <= 0.96
    assert hits_items / 150 < 0.5
