"""Where a choice lies in the grid that it was made from."""

from collections.abc import Sequence
from typing import Any


def edges(tuning: dict[str, Any], key: str) -> dict[str, str]:
    """Arm → chosen value, where that is the smallest or the largest of a grid of numbers: a better one may lie outside.

    Args:
        tuning: `grid` (key → values), `chosen` (arm → key → value), and `search` where values were searched.
        key: what was tuned.
    """
    tried = numbers(tuning["grid"][key])
    if tried is None or (tuning.get("search") or {}).get(key):
        return {}
    chosen = {arm: values[key] for arm, values in tuning.get("chosen", {}).items() if values and key in values}
    return {arm: value for arm, value in chosen.items() if float(value) in (min(tried), max(tried))}


def numbers(values: Sequence[Any]) -> list[float] | None:
    """Values of a grid as numbers; None where one is none."""
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        return None
