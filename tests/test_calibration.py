"""Calibration error against a slow loop, and where the truth is known."""

import numpy as np
import pytest

from dante.evaluate.suites.heldout.calibration import calibration


def drawn(n: int, seed: int, overconfidence: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.3, 1.0, size=n)
    correct = rng.random(n) < confidence - overconfidence
    return confidence, correct, np.arange(n) // 10


def slow(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    total = 0.0
    for index in range(bins):
        last = index == bins - 1
        inside = (confidence >= index / bins) & ((confidence < (index + 1) / bins) | last)
        if inside.any():
            total += abs(correct[inside].mean() - confidence[inside].mean()) * inside.sum()
    return total / len(confidence)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_equals_a_slow_loop(bins: int) -> None:
    confidence, correct, record = drawn(500, 0)
    confidence[0] = 1.0
    found = calibration(confidence, correct, record, bins=bins, seed=0)
    assert found.ece == pytest.approx(slow(confidence, correct, bins))
    assert sum(part["tokens"] for part in found.bins) == 500
    assert found.bins[-1]["tokens"] == int((confidence >= (bins - 1) / bins).sum())
    assert found.bins[0]["low"] == 0.0
    assert found.bins[-1]["high"] == 1.0


def test_a_calibrated_model_has_almost_no_error_and_an_overconfident_one_its_excess() -> None:
    assert calibration(*drawn(40_000, 1), bins=15, seed=0).ece < 0.02
    assert calibration(*drawn(40_000, 1, overconfidence=0.2), bins=15, seed=0).ece == pytest.approx(0.2, abs=0.02)


def test_stderr_is_the_spread_over_fresh_records() -> None:
    samples = [calibration(*drawn(2000, seed, overconfidence=0.2), bins=10, seed=0) for seed in range(200)]
    spread = np.std([sample.ece for sample in samples])
    claimed = np.mean([sample.stderr for sample in samples if sample.stderr is not None])
    assert claimed == pytest.approx(spread, rel=0.2)


def test_a_single_record_has_no_stderr() -> None:
    confidence, correct, record = drawn(10, 3)
    assert calibration(confidence, correct, record, bins=5, seed=0).stderr is None
