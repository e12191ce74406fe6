"""Stage `score`: what is measured of a model that does not depend on the student's training, so that runs share it.

The recipe runs it twice, as `eval-teacher` and `eval-init`. A teacher without weights on this machine, or without a
chat template, leaves a note and nothing else. A restart begins anew.
"""

import shutil
from pathlib import Path

from dante.cache.asked import check_rendering
from dante.evaluate.one_model import Subject, measure
from dante.models.pretrained import why_not_here
from dante.run.step import Step
from dante.system.files import write_json
from dante.teachers.teacher import load_teacher


def run(step: Step) -> None:
    """Measures `settings["model"]` (`teacher` or `init`) and writes its directory (see `dante.evaluate.one_model`).

    Inputs: `teacher`, `cache`; for `init` also `init` and `eval-teacher`.
    """
    shutil.rmtree(step.out, ignore_errors=True)
    step.out.mkdir(parents=True)
    check_rendering(step.inputs["cache"], step.inputs["teacher"], step.settings["chat"])
    missing = teacher_missing(step.inputs["teacher"])
    if step.settings["model"] == "teacher" and missing:
        write_json(step.out / "scores.json", {"model": "teacher", "rows": [], "notes": [missing], "commands": {}})
        return
    measure(
        subject(step.settings["model"], step.inputs, step.seed),
        step.inputs["cache"],
        step.out,
        step.settings,
        step.resources["trainer"]["threads"],
    )


def subject(name: str, inputs: dict[str, Path], seed: int) -> Subject:
    """The model called `name` with its folder, beside the teacher where that was scored."""
    teacher = load_teacher(inputs["teacher"])
    folder = Path(teacher.location(inputs["teacher"])) if teacher.local else None
    if name == "teacher":
        assert folder is not None
        return Subject(name, folder, seed)
    own = inputs["init"] / "model" if name == "init" else inputs["release"]
    return Subject(name, own, seed, inputs.get("eval-teacher"), folder)


def teacher_missing(folder: Path) -> str | None:
    """Why the teacher cannot be scored here, or None."""
    teacher = load_teacher(folder)
    if not teacher.local:
        return f"The teacher {teacher.name} has no weights here, so nothing is measured of it."
    if not teacher.chat_template:
        return f"The teacher {teacher.name} has no chat template, so nothing is measured of it."
    reason = why_not_here(Path(teacher.location(folder)))
    return (
        f"The teacher {teacher.name} cannot be read here ({reason}), so nothing is measured of it." if reason else None
    )
