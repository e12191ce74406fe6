"""A step of a recipe: what a stage is given, and the step before it runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from dante.run import store
from dante.system.files import STEP_FILE

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Step(Generic[Settings]):
    """What a stage is given: its settings, the finished directories it reads, and the directory it writes.

    Attributes:
        label: unique name in the recipe (`fit`, `fit-low_t`).
        stage: which stage runs it.
        settings: of the class that the stage's row in `dante.run.stages` names.
        resources: resolved plain containers; devices, interpreters, loggers: not part of the fingerprint.
        inputs: finished step directories by input name.
        out: the `.partial` directory to write; may hold what an interrupted attempt left.
        fingerprint: identity of settings and inputs.
        seed: `settings.seed`, or 0 for a step whose settings name none.
    """

    label: str
    stage: str
    settings: Settings
    resources: dict[str, Any]
    inputs: dict[str, Path]
    out: Path
    fingerprint: str
    seed: int


@dataclass(frozen=True)
class PlannedStep:
    """A step of a recipe before it runs.

    Attributes:
        settings: resolved plain containers, as typed: what the fingerprint is of.
        directory: where it will lie, or lies, when complete.
    """

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
