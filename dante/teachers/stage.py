"""Stage `teacher`: makes the teacher, or points at one that exists."""

from typing import Any

from dante.run.parts import build
from dante.run.step import Step
from dante.teachers.settings import Settings


def content_identity(settings: dict[str, Any]) -> Any:
    """What a teacher is made of that lies outside the run: the files of a local folder."""
    maker = build(settings["make"])
    return maker.identity() if hasattr(maker, "identity") else None


def run(step: Step[Settings]) -> None:
    """Builds `settings.make` and lets it write `teacher.json` (and `model/`) into `step.out`."""
    step.out.mkdir(parents=True, exist_ok=True)
    build(step.settings.make).make(step.out)
