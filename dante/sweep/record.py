"""`sweep.json`: what a sweep consists of and how far it is, for the comparison and for its next start."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dante.run import pipeline, store
from dante.run.config.check import is_chosen
from dante.system.files import write_json

FILE = "sweep.json"


@dataclass
class PlannedPoint:
    """A point with its run.

    Attributes:
        run: the run's name.
        arm: its arm's name.
        seed: its seed.
        phase: `tune` or `final`.
        levels: of the factors that make its arm.
        tuned: values of the tuning grid by key.
        overrides: the command line that runs it, its name included.
        config: the checked configuration; None where it could not be composed.
        status: `pending`, `done` or `failed`.
        error: why it failed.
    """

    run: str
    arm: str
    seed: int | None
    phase: str
    levels: dict[str, str]
    tuned: dict[str, str]
    overrides: list[str]
    config: dict[str, Any] | None
    status: str = "pending"
    error: str | None = None

    @property
    def run_dir(self) -> Path:
        assert self.config is not None
        return Path(self.config["run"]["dir"]).absolute()

    def summary(self) -> dict[str, Any]:
        """For `sweep.json`."""
        names = ("run", "arm", "seed", "phase", "levels", "tuned", "overrides", "status", "error")
        return {name: getattr(self, name) for name in names}


@dataclass
class SweepRecord:
    """Content of `sweep.json`.

    Attributes:
        folder: the sweep's directory, beside its runs.
        command: what the user typed.
        baseline: the arm that others are compared with, or None.
        compute: the budget that all points share, or None.
        tuning: grid, scores and choices, or None.
        points: all of them, in order.
    """

    folder: Path
    command: str
    baseline: str | None
    compute: dict[str, Any] | None = None
    tuning: dict[str, Any] | None = None
    points: list[PlannedPoint] = field(default_factory=list)

    def write(self) -> None:
        """Write `sweep.json`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {
            "sweep": self.folder.name,
            "command": self.command,
            "baseline": self.baseline,
            "compute": self.compute,
            "tuning": self.tuning,
            "points": [point.summary() | self._place(point) for point in self.points],
        }
        write_json(self.folder / FILE, content)

    def _place(self, point: PlannedPoint) -> dict[str, str]:
        """Where the run lies, seen from the sweep's directory."""
        return {} if point.config is None else {"directory": os.path.relpath(point.run_dir, self.folder)}


def is_finished(config: dict[str, Any]) -> bool:
    """Whether a run has all of its steps, sound, with its links to them: nothing is left to start."""
    run_dir = Path(config["run"]["dir"]).absolute()
    if not (run_dir / "config.yaml").is_file():
        return False
    for step in pipeline.plan_steps(config):
        if not is_chosen(config, step.label):
            continue
        linked = (run_dir / step.label).resolve() == step.directory.resolve()
        if not (linked and step.complete) or store.damage(step.directory, thorough=False):
            return False
    return True
