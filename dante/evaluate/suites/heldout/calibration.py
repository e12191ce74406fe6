"""Calibration of the most likely token: does a model that says 80 % turn out right 80 % of the time?

Expected calibration error over equal-width bins b of the top-1 probability (Guo et al. 2017, "On Calibration of Modern
Neural Networks", equation 3) [C]: `ECE = sum_b n_b / N * |accuracy_b − confidence_b|`. A token is right when the most
likely token is the one that the teacher wrote. The standard error is the bootstrap's over records [I]: tokens of one
answer are not independent, and ECE is no ratio of sums. ECE of few tokens is biased upwards.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

RESAMPLES = 1000


@dataclass(frozen=True)
class Calibration:
    """ECE, its standard error over records (None for a single one), and the reliability diagram's bins."""

    ece: float
    stderr: float | None
    bins: list[dict[str, Any]]


def calibration(
    confidence: Float64[np.ndarray, "tokens"],
    correct: Bool[np.ndarray, "tokens"],
    record: Int64[np.ndarray, "tokens"],
    *,
    bins: int,
    seed: int,
) -> Calibration:
    """Calibration of one model's top-1 token.

    Args:
        confidence: probability of the most likely token.
        correct: the label is that token.
        record: row of the record that each token belongs to, from 0.
        bins: number of bins of equal width on [0, 1].
        seed: of the resampling.
    """
    records = int(record.max()) + 1
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    # Sums per record and bin: [tokens, confidence, correct].
    sums = np.zeros((3, records, bins))
    for row, values in enumerate((np.ones(len(confidence)), confidence, correct.astype(np.float64))):
        np.add.at(sums[row], (record, place), values)
    tokens, confident, right = sums.sum(axis=1)
    described = [
        {
            "low": index / bins,
            "high": (index + 1) / bins,
            "tokens": int(count),
            "confidence": float(confident[index] / count) if count else None,
            "accuracy": float(right[index] / count) if count else None,
        }
        for index, count in enumerate(tokens)
    ]
    stderr = None
    if records > 1:
        drawn = np.random.default_rng(seed).multinomial(records, np.full(records, 1 / records), size=RESAMPLES)
        resampled = [drawn @ part for part in sums]
        stderr = float(_ece(*resampled).std(ddof=1))
    return Calibration(float(_ece(tokens, confident, right)), stderr, described)


def _ece(tokens: np.ndarray, confidence: np.ndarray, correct: np.ndarray) -> Any:
    return np.abs(correct - confidence).sum(axis=-1) / tokens.sum(axis=-1)
