"""Equal tuning: every arm is trained at each place of one grid, and takes the one that its validation answers prefer.

The validation answers are neither trained on nor reported on, so what is chosen by them does not flatter a result.
"""

import math
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.report.comparison.tuning import edges
from dante.sweep.record import PlannedPoint
from dante.sweep.settings import Tune
from dante.system.jsonl import read_lines

METRIC = "validation bits per byte"
# What a point has to measure so that it can be chosen by.
NEEDED = "eval.validation=true"


def validation_bits_per_byte(run_dir: Path) -> float:
    """Bits per byte of the validation answers of a finished run.

    Raises:
        DanteError: the run has not scored any.
    """
    path = run_dir / "eval" / "student" / "heldout" / "validation.jsonl"
    lines = read_lines(path) if path.is_file() else []
    if not lines:
        raise DanteError(
            f"the run {run_dir.name} has no validation scores to choose by",
            where=str(path),
            fix=f"a cache with validation records (cache.source.validation), and {NEEDED}",
        )
    return float(sum(line["bits"] for line in lines) / sum(line["bytes"] for line in lines))


def place(values: dict[str, str]) -> str:
    """A place of the grid as text: `1e-3`, or `fit.lr=1e-3,fit.clip=1` where several keys are tuned."""
    return next(iter(values.values())) if len(values) == 1 else ",".join(f"{k}={v}" for k, v in values.items())


class Choices:
    """Scores of all arms by place, and what each arm takes."""

    def __init__(self) -> None:
        self.scores: dict[str, dict[str, float]] = {}
        self.places: dict[str, dict[str, str]] = {}

    def take(self, point: PlannedPoint) -> float | None:
        """The score of a tuning run; None where it failed."""
        by_place = self.scores.setdefault(point.arm, {})
        self.places[place(point.tuned)] = point.tuned
        if point.status != "done":
            return None
        try:
            score = validation_bits_per_byte(point.run_dir)
        except DanteError as error:
            point.status, point.error = "failed", str(error)
            return None
        if not math.isfinite(score):
            point.status, point.error = "failed", f"its {METRIC} are {score}"
            return None
        by_place[place(point.tuned)] = score
        return score

    def best(self, arm: str) -> dict[str, str] | None:
        """The arm's choice; None where no tuning run of it finished."""
        scores = self.scores.get(arm)
        return self.places[min(scores, key=lambda name: scores[name])] if scores else None

    def at_edge(self, arm: str, tune: Tune) -> list[str]:
        """Keys of a grid of numbers whose choice is its smallest or largest: a better one may lie outside."""
        outcome = {"grid": tune.grid, "chosen": {arm: self.best(arm)}}
        return [key for key in tune.grid if edges(outcome, key)]

    def summary(self, tune: Tune) -> dict[str, Any]:
        """For `sweep.json`."""
        tried = {key: list(dict.fromkeys(values[key] for values in self.places.values())) for key in tune.keys}
        return {
            "grid": tried,
            "search": tune.search,
            "seed": tune.seed,
            "metric": METRIC,
            "scores": self.scores,
            "chosen": {arm: self.best(arm) for arm in self.scores},
            "at_edge": {arm: edges for arm in self.scores if (edges := self.at_edge(arm, tune))},
        }
