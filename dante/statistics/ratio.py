"""A quantity over items: a ratio of sums, with the standard error that the choice of items leaves.

Everything that is measured per item has this form: bits per byte (bits over bytes), top-1 accuracy (correct tokens over
tokens), the share of answers that stop (stopped over answers). The items (held-out records, texts) are the sampling
unit, because tokens of one answer are not independent; long items weigh more, as they should in a total.

Source: delta method for a ratio estimator, Cochran, "Sampling Techniques" (1977), section 2.11.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64


@dataclass(frozen=True)
class Ratio:
    """`sum(numerator) / sum(denominator)` over items, in the same order for every model.

    Attributes:
        numerator: per item, e.g. bits.
        denominator: per item, e.g. bytes; ones make it a plain mean.
    """

    numerator: Float64[np.ndarray, "items"]
    denominator: Float64[np.ndarray, "items"]

    def __len__(self) -> int:
        return len(self.numerator)

    def of(self, rows: Int64[np.ndarray, "chosen"]) -> "Ratio":
        """The same quantity over some of the items."""
        return Ratio(self.numerator[rows], self.denominator[rows])

    @property
    def value(self) -> float:
        """The ratio of totals; NaN where there is nothing to divide by."""
        total = float(self.denominator.sum())
        return float(self.numerator.sum()) / total if total else float("nan")

    @property
    def stderr(self) -> float | None:
        """Standard error over items by the delta method; None for fewer than two items."""
        items = len(self)
        if items < 2:
            return None
        residuals = self.numerator - self.value * self.denominator
        return float(np.sqrt(items / (items - 1) * np.square(residuals).sum()) / self.denominator.sum())


def mean(values: Float64[np.ndarray, "items"]) -> Ratio:
    """A plain mean over items as a ratio."""
    return Ratio(values, np.ones(len(values)))
