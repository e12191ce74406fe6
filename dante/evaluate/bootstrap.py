"""Uncertainty of bits per byte: a standard error for one model, a paired interval for the difference of two.

Bits per byte of a set of texts is a ratio of sums, `r = sum(bits) / sum(bytes)`; the items (held-out records) are the
sampling unit, because tokens of one answer are not independent. Two models are scored on the *same* items, so their
difference is resampled in pairs: what makes an answer hard for both cancels.

Sources: delta method for a ratio estimator, Cochran, "Sampling Techniques" (1977), section 2.11; percentile bootstrap,
Efron and Tibshirani (1993), chapter 13. The interval covers the choice of held-out items, *not* the training seed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

# Resampled index counts are made in blocks of this many numbers, so that memory stays flat for any number of items.
BLOCK_NUMBERS = 4_000_000


@dataclass(frozen=True)
class PairedDifference:
    """`a - b` in bits per byte with a percentile interval over items.

    Attributes:
        difference: bits per byte of a minus bits per byte of b, on the items as they are.
        low: lower end of the interval.
        high: upper end of the interval.
        stderr: standard deviation of the resampled differences.
        n: number of items.
        resamples: bootstrap resamples.
        confidence: coverage asked for, e.g. 0.95.
    """

    difference: float
    low: float
    high: float
    stderr: float
    n: int
    resamples: int
    confidence: float


def bits_per_byte(bits: Float64[np.ndarray, "items"], text_bytes: Int64[np.ndarray, "items"]) -> float:
    """Total bits over total bytes: every byte of text weighs the same, whichever item it stands in."""
    return float(bits.sum() / text_bytes.sum())


def ratio_stderr(bits: Float64[np.ndarray, "items"], text_bytes: Int64[np.ndarray, "items"]) -> float | None:
    """Standard error of `sum(bits) / sum(bytes)` over items by the delta method; None for a single item."""
    items = len(bits)
    if items < 2:
        return None
    residuals = bits - bits_per_byte(bits, text_bytes) * text_bytes
    return float(np.sqrt(items / (items - 1) * np.square(residuals).sum()) / text_bytes.sum())


def paired_bootstrap(
    bits_a: Float64[np.ndarray, "items"],
    bits_b: Float64[np.ndarray, "items"],
    text_bytes: Int64[np.ndarray, "items"],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> PairedDifference:
    """Difference of two models' bits per byte on the same items, with a percentile interval.

    Args:
        bits_a: bits the first model needs for each item's text.
        bits_b: bits the second model needs for the same items, in the same order.
        text_bytes: UTF-8 bytes of each item's text.
        resamples: how many times the items are drawn with replacement.
        confidence: coverage of the interval, in (0, 1).
        seed: of the resampling.
    """
    items = len(text_bytes)
    per_item = np.stack([bits_a - bits_b, text_bytes.astype(np.float64)], axis=1)
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK_NUMBERS // items)
    differences = np.empty(resamples)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        # How often each item is drawn is all a sum needs: a matrix product instead of a gather.
        counts = rng.multinomial(items, np.full(items, 1 / items), size=rows)
        sums = counts @ per_item
        differences[start : start + rows] = sums[:, 0] / sums[:, 1]
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return PairedDifference(
        difference=bits_per_byte(bits_a - bits_b, text_bytes),
        low=float(low),
        high=float(high),
        stderr=float(differences.std(ddof=1)),
        n=items,
        resamples=resamples,
        confidence=confidence,
    )
