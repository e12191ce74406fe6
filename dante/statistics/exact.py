"""Two models that are right or wrong on the same items: the exact test, which needs no large sample.

Where few items differ a t test finds too much: five of 200 items that differ, all one way, give it p = 0.025; McNemar's
exact p-value is 2 · 2⁻⁵ = 0.0625.

Source: McNemar (1947), Psychometrika 12; exact form: the sign test over the items that differ [S].
"""

import numpy as np
from jaxtyping import Float64
from scipy import stats


def mcnemar(a: Float64[np.ndarray, "items"], b: Float64[np.ndarray, "items"]) -> float:
    """Two-sided p-value of no difference; 1 where no item differs.

    Args:
        a: per item 1 where the first model is right, else 0.
        b: the second model's, in the same order.
    """
    wins, losses = int((a > b).sum()), int((a < b).sum())
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
