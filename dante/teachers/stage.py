"""Stage `teacher`: makes the teacher, or points at one that exists."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dante.run.parts import build
from dante.run.step import Step
from dante.teachers.settings import Settings


@runtime_checkable
class FromSteps(Protocol):
    """A maker that reads other steps of the recipe."""

    def make_from(self, inputs: Mapping[str, Path], out: Path) -> Any:
        """Writes `teacher.json` (and `model/`) into `out`."""


def content_identity(settings: dict[str, Any]) -> Any:
    """What a teacher is made of that lies outside the run: the files of a local folder."""
    maker = build(settings["make"])
    return maker.identity() if hasattr(maker, "identity") else None


def run(step: Step[Settings]) -> None:
    """Builds `settings.make` and lets it write `teacher.json` (and `model/`) into `step.out`."""
    step.out.mkdir(parents=True, exist_ok=True)
    maker = build(step.settings.make)
    if isinstance(maker, FromSteps):
        maker.make_from(step.inputs, step.out)
    else:
        maker.make(step.out)
