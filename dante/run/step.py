"""A step of a recipe: what a stage is given, and the step before it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dante.run import store
from dante.system.files import STEP_FILE


@dataclass(frozen=True)
class Step:
    """What a stage is given: its settings, the finished directories it reads, and the directory it writes.

    Attributes:
        label: unique name in the recipe (`fit`, `fit-low_t`).
        stage: which stage runs it.
        settings: resolved plain containers; part of the fingerprint.
        resources: resolved plain containers; devices, interpreters, loggers: not part of the fingerprint.
        inputs: finished step directories by input name.
        out: the `.partial` directory to write; may hold what an interrupted attempt left.
        fingerprint: identity of settings and inputs.
        seed: `settings["seed"]`, or 0 for a step whose settings name none.
    """

    label: str
    stage: str
    settings: dict[str, Any]
    resources: dict[str, Any]
    inputs: dict[str, Path]
    out: Path
    fingerprint: str
    seed: int


@dataclass(frozen=True)
class PlannedStep:
    """A step of a recipe before it runs. `directory` is where it will lie, or lies, when complete."""

    label: str
    stage: str
    settings: dict[str, Any]
    resources: dict[str, Any]
    inputs: dict[str, str]
    fingerprint: str
    directory: Path

    @property
    def partial(self) -> Path:
        return store.partial_of(self.directory)

    @property
    def complete(self) -> bool:
        return (self.directory / STEP_FILE).is_file()
