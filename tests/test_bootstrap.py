"""Intervals for bits per byte: agreement with scipy, and coverage where the truth is known."""

import numpy as np
import pytest
import scipy.stats

from dante.evaluate.bootstrap import bits_per_byte, paired_bootstrap, ratio_stderr


def items(rng: np.random.Generator, n: int, effect: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two models on n answers of unequal length; what makes an answer hard for one makes it hard for the other."""
    text_bytes = rng.integers(100, 800, size=n)
    difficulty = rng.normal(1.0, 0.3, size=n)
    bits_b = text_bytes * (difficulty + rng.normal(0, 0.05, size=n))
    bits_a = text_bytes * (difficulty + effect + rng.normal(0, 0.05, size=n))
    return bits_a, bits_b, text_bytes


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
    each = ratio_stderr(bits_a, text_bytes), ratio_stderr(bits_b, text_bytes)
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
    samples = [(bits, size) for bits, _, size in (items(rng, 50) for _ in range(2000))]
    spread = np.std([bits_per_byte(*sample) for sample in samples])
    claimed = np.mean([ratio_stderr(*sample) for sample in samples])
    assert claimed == pytest.approx(spread, rel=0.05)


def test_a_single_item_has_no_stderr() -> None:
    assert ratio_stderr(np.array([3.0]), np.array([2])) is None
