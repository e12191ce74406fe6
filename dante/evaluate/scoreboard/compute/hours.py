"""What training a run's student took, in A100-hours, so that it can stand beside the DANTE card's compute table.

A fit on A100s has its own device-hours. Any other is converted by its FLOPs at 10¹⁴ FLOP/s for each A100, 32 % of the
312 TFLOP/s that the vendor lists: the rate at which the card's own estimates, 6·N·D, come out. SmolLM3's pretraining
is 6 · 3.075e9 · 11.2e12 / 10¹⁴ FLOP/s = 5.74e5 hours, where the card has 5.75e5; its mid-training on 140e9 tokens is
7.18e3 hours, where it has 7.2e3 [I]. FLOPs are those of the report: see `dante.cost.compute`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dante.look.numbers import is_number
from dante.system.files import read_json

A100_FLOPS_PER_S = 1e14
CONVERSION = (
    "Hours of a fit on A100s are its own; those of any other are its FLOPs at 10¹⁴ FLOP/s, 32% of an A100's listed "
    "312 TFLOP/s: the rate at which the card's estimates 6·N·D come out (SmolLM3's pretraining, 6 · 3.075e9 · 11.2e12 "
    "FLOPs, is then 5.74e5 hours; the card has 5.75e5)."
)


@dataclass(frozen=True)
class Hours:
    """A100-hours of all fits of a run.

    Attributes:
        training: of the student; None: unknown.
        with_teacher: the teacher's answers and its scoring included; None: unknown.
        why_not: why training's are unknown, or empty.
    """

    training: float | None
    with_teacher: float | None
    why_not: str = ""


def of_run(run: Path) -> Hours:
    """Read from `fit*/summary.json` of a run.

    Args:
        run: its directory.

    Raises:
        DanteError: a summary is no JSON.
    """
    summaries = [read_json(path) for path in sorted(run.glob("fit*/summary.json"))]
    if not summaries:
        return Hours(None, None, "no fit has left a summary")
    each = [_training(summary) for summary in summaries]
    if any(hours is None for hours in each):
        return Hours(None, None, "a fit's summary has no FLOPs")
    training = sum(hours for hours in each if hours is not None)
    teacher = [_teacher(summary) for summary in summaries]
    known = all(hours is not None for hours in teacher)
    return Hours(training, training + sum(hours or 0.0 for hours in teacher) if known else None)


def _training(summary: dict[str, Any]) -> float | None:
    if "A100" in str(summary.get("device", "")) and is_number(summary.get("device_hours")):
        return float(summary["device_hours"])
    return converted(summary.get("flops"))


def _teacher(summary: dict[str, Any]) -> float | None:
    """Generation and scoring, by their FLOPs: they may have been made on any machine."""
    compute = summary.get("compute") or {}
    parts = [converted((compute.get(part) or {}).get("flops")) for part in ("generation", "scoring")]
    return None if None in parts else sum(hours for hours in parts if hours is not None)


def converted(flops: Any) -> float | None:
    """FLOPs → A100-hours; None where they are not known."""
    return float(flops) / A100_FLOPS_PER_S / 3600 if is_number(flops) else None
