"""Many comparisons at once: p-values that may be read as if each were the only one.

Sources: Holm (1979), Scandinavian Journal of Statistics 6 [S]; Benjamini and Hochberg (1995), JRSS B 57 [S].
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values under which the chance of even one false finding stays below the level.

    The k-th smallest of m is multiplied by m − k + 1, and none is smaller than the one before it.

    Args:
        p: p-values; None where a comparison has none, which counts as no comparison.
    """
    p_by_place = _known(p)
    order = sorted(p_by_place, key=lambda place: p_by_place[place])
    adjusted: dict[int, float] = {}
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_by_place[place]))
        adjusted[place] = largest
    return [adjusted.get(place) for place in range(len(p))]


def benjamini_hochberg(p: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values under which the expected share of false findings among the findings stays below the level.

    It holds for independent and positively dependent tests; metrics of the same runs are the latter.

    Args:
        p: p-values; None where a comparison has none.
    """
    p_by_place = _known(p)
    if not p_by_place:
        return [None] * len(p)
    adjusted = dict(zip(p_by_place, stats.false_discovery_control(np.array(list(p_by_place.values()))), strict=True))
    return [float(adjusted[place]) if place in adjusted else None for place in range(len(p))]


def _known(p: Sequence[float | None]) -> dict[int, float]:
    return {place: value for place, value in enumerate(p) if value is not None}
