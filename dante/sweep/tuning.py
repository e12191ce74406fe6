"""Equal tuning: every arm is trained at each place of one grid, and takes the one that its validation answers prefer.

The validation answers are neither trained on nor reported on, so what is chosen by them does not flatter a result.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.jsonl import read_lines
from dante.sweep.record import PlannedPoint

METRIC = "validation bits per byte"
# What a point has to measure so that it can be chosen by.
NEEDED = "eval.validation=true"


def validation_bits_per_byte(run_dir: Path) -> float:
    """Bits per byte of the validation answers of a finished run.

    Raises:
        DanteError: the run has not scored any.
    """
    path = run_dir / "eval" / "student" / "validation.jsonl"
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
    """Scores of all arms by place of the grid, and what each arm takes.

    Args:
        grid: every place.
        seed: that was tuned with.
        points: tuning points, done or failed.
    """

    def __init__(self, grid: list[dict[str, str]], seed: int, points: Sequence[PlannedPoint]) -> None:
        self.grid, self.seed = grid, seed
        self.scores: dict[str, dict[str, float]] = {}
        for point in points:
            by_place = self.scores.setdefault(point.arm, {})
            if point.status == "done":
                by_place[place(point.tuned)] = validation_bits_per_byte(point.run_dir)

    def best(self, arm: str) -> dict[str, str] | None:
        """The arm's choice; None where no tuning run of it finished."""
        scores = self.scores.get(arm)
        if not scores:
            return None
        chosen = min(scores, key=lambda name: scores[name])
        return next(values for values in self.grid if place(values) == chosen)

    def at_edge(self, arm: str) -> list[str]:
        """Tuned keys whose choice is the first or last value of its grid: a better one may lie outside."""
        chosen = self.best(arm) or {}
        lists = {key: list(dict.fromkeys(values[key] for values in self.grid)) for key in chosen}
        return [key for key, value in chosen.items() if value in (lists[key][0], lists[key][-1])]

    def summary(self) -> dict[str, Any]:
        """For `sweep.json`."""
        keys = self.grid[0]
        return {
            "grid": {key: list(dict.fromkeys(values[key] for values in self.grid)) for key in keys},
            "seed": self.seed,
            "metric": METRIC,
            "scores": self.scores,
            "chosen": {arm: self.best(arm) for arm in self.scores},
            "at_edge": {arm: edges for arm in self.scores if (edges := self.at_edge(arm))},
        }
