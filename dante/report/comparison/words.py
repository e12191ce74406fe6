"""How a comparison's numbers are written: as many digits as its errors leave meaning."""

import math

from dante.look.metric import Metric
from dante.report.comparison.judge import Result
from dante.report.words import task_name


def digits(result: Result) -> int:
    """Decimals of a metric's numbers in one table: two significant digits of its smallest standard error, 3 to 6."""
    errors = [cell.effect.stderr for cell in result.others if cell.effect and cell.effect.stderr]
    return min(6, max(3, 1 - math.floor(math.log10(min(errors))))) if errors else 4


def signed(how: Metric, number: float, decimals: int) -> str:
    """`−0.0336`, or `−3.4` points for a share; a true minus, and no sign for nothing."""
    text = f"{100 * number:+.{max(decimals - 2, 1)}f}" if how.share else f"{number:+.{decimals}f}"
    return text.replace("-", "−") if text.strip("+-0.") else text[1:]


def unit(how: Metric) -> str:
    """What differences of a metric are counted in."""
    return "points" if how.share else how.label if how.label == "bits per byte" else ""


def span(how: Metric, low: float, high: float, decimals: int) -> str:
    """`−0.0498 to −0.0173`."""
    return f"{signed(how, low, decimals)} to {signed(how, high, decimals)}"


def title(result: Result) -> str:
    """`bits per byte, held-out answers`; with the part for a slice."""
    part = f": {task_name(result.task)}" if "/" in result.task else ""
    return f"{result.how.label}, {result.asked}{part}"


def direction(how: Metric) -> str:
    """`lower is better`."""
    return f"{how.better} is better" if how.better else "neither direction is better as such"


def made(settings: dict[str, str]) -> str:
    """How a number was measured: `teacher-forced, n = 200, 0-shot, dante 0.1.0, bf16`."""
    forms = {"decoding": "{}", "n": "n = {}", "n_shot": "{}-shot", "harness": "{}", "harness_version": "version {}",
             "precision": "weights in {}"}  # fmt: skip
    return ", ".join(form.format(settings[name]) for name, form in forms.items() if name in settings)
