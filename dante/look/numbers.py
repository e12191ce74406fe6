"""Numbers as a person writes them."""

import math
from typing import Any


def flops(number: int | float) -> str:
    """`5.66e13`: FLOPs are compared by their exponent."""
    mantissa, exponent = f"{number:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def is_number(value: Any) -> bool:
    """A finite number, as far as a file that anybody may have written holds one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: int | float) -> str:
    """Three significant digits as a person writes them: `2,128`, `0.021`, `3.05e-6`."""
    if value == 0 or 1e-3 <= abs(value) < 1000:
        return f"{value:.3g}"
    if 1000 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    mantissa, exponent = flops(value).split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"


def probability(p: float | None) -> str:
    """`0.12`, `0.006`, `<0.001`."""
    if p is None:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"
