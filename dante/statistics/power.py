"""The smallest true difference that a comparison would find: what "undecided" still rules out."""

import functools
import math
from collections.abc import Sequence

from scipy import optimize, stats


def power(difference: float, stderr: float, df: float, *, level: float) -> float:
    """Chance that a two-sided t test finds a true difference, from the noncentral t distribution.

    Args:
        difference: true difference.
        stderr: standard error of the estimate.
        df: degrees of freedom of the test.
        level: of the test, e.g. 0.05.
    """
    return _power(abs(difference) / stderr, df, float(stats.t.isf(level / 2, df)))


def detectable(parts: Sequence[tuple[float, float]], *, level: float, power: float) -> float | None:
    """Smallest difference that passes each of some t tests with the given chance; None without a test.

    The variances are themselves estimates: with three seeds a standard error may be off by a factor of two either way,
    and so may this. It speaks of the true difference, not of the measured one.

    Args:
        parts: variance of the estimate and degrees of freedom of every test, see `dante.statistics.crossed.Effect`.
        level: of the tests, e.g. 0.05.
        power: chance asked for of each test, in (level, 1).
    """
    return max((math.sqrt(variance) * _shift(df, level, power) for variance, df in parts), default=None)


def seeds_to_decide(difference: float, per_seed: float, fixed: float, *, level: float, most: int = 1000) -> int | None:
    """Seeds of each arm at which a difference as large as the measured one would no longer be called none.

    With the variances as they were estimated and a true difference that is the measured one, half of all such
    comparisons would find it. None: not even `most` seeds would, because the items alone are too few.

    Args:
        difference: as measured.
        per_seed: variance of one seed's difference, without what the choice of items adds to all seeds alike.
        fixed: variance that the choice of items adds, whatever the number of seeds.
        level: of the test, e.g. 0.05.
        most: seeds that anybody would run.
    """
    for seeds in range(2, most + 1):
        if abs(difference) > float(stats.t.isf(level / 2, seeds - 1)) * math.sqrt(fixed + per_seed / seeds):
            return seeds
    return None


@functools.lru_cache(maxsize=4096)
def _shift(df: float, level: float, power: float) -> float:
    """The difference in standard errors that one test finds with the given chance."""
    threshold = float(stats.t.isf(level / 2, df))
    high = threshold
    while _power(high, df, threshold) < power:
        high *= 2
    return float(optimize.brentq(lambda shift: _power(shift, df, threshold) - power, 0.0, high))


def _power(shift: float, df: float, threshold: float) -> float:
    tails = float(stats.nct.sf(threshold, df, shift) + stats.nct.cdf(-threshold, df, shift))
    # scipy's tail on the far side is NaN where it is nothing.
    return tails if not math.isnan(tails) else float(stats.nct.sf(threshold, df, shift))
