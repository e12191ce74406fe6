"""The smallest true difference that a comparison would find: what "undecided" still rules out."""

import math

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


def detectable(stderr: float | None, df: float | None, *, level: float, power: float) -> float | None:
    """Smallest difference found with the given chance; None without a standard error.

    The standard error is itself an estimate: with three seeds it may be off by a factor of two either way, and so may
    this. It is the true difference that matters here, not the measured one.

    Args:
        stderr: standard error of the estimate.
        df: degrees of freedom of the test.
        level: of the test, e.g. 0.05.
        power: chance asked for, in (level, 1).
    """
    if stderr is None or df is None:
        return None
    threshold = float(stats.t.isf(level / 2, df))
    # The t statistic's numerator and denominator are apart by at most this much: power is above any target there.
    high = threshold
    while _power(high, df, threshold) < power:
        high *= 2
    return stderr * float(optimize.brentq(lambda shift: _power(shift, df, threshold) - power, 0.0, high))


def _power(shift: float, df: float, threshold: float) -> float:
    found = float(stats.nct.sf(threshold, df, shift) + stats.nct.cdf(-threshold, df, shift))
    # scipy's tail on the far side is NaN where it is nothing.
    return found if not math.isnan(found) else float(stats.nct.sf(threshold, df, shift))
