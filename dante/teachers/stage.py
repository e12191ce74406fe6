"""Stage `teacher`: makes the teacher, or points at one that exists."""

from dante.pipeline import Step
from dante.targets import build


def run(step: Step) -> None:
    """Builds `settings["make"]` and lets it write `teacher.json` (and `model/`) into `step.out`."""
    step.out.mkdir(parents=True, exist_ok=True)
    build(step.settings["make"]).make(step.out)
