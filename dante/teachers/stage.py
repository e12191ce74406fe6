"""Stage `teacher`: makes the teacher, or points at one that exists."""

import hydra

from dante.pipeline import Step


def run(step: Step) -> None:
    """Instantiates `settings["make"]` and lets it write `teacher.json` (and `model/`) into `step.out`."""
    step.out.mkdir(parents=True, exist_ok=True)
    hydra.utils.instantiate(step.settings["make"]).make(step.out)
