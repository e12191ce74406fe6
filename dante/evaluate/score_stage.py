"""Stage `score`: what is measured of a model that does not depend on the student's training, so that runs share it.

The recipe runs it twice, as `eval-teacher` and `eval-init`; one with a fit of blocks before the fit of tokens once
more, as `eval-matched`. A teacher without weights on this machine, or without a chat template, leaves a note, and
the rows that its cache brings (`dante.evaluate.kept_scores`). A restart begins anew.
"""

import shutil
from pathlib import Path

from dante.cache.asked import check_rendering
from dante.cache.generate.teacher_store import STORES
from dante.evaluate.kept_scores.use import kept_beside, write_kept
from dante.evaluate.measure import build_suites, measure
from dante.evaluate.settings import Eval, Score
from dante.evaluate.subject import Subject
from dante.models.pretrained import why_not_here
from dante.run.step import Step
from dante.system.files import write_json
from dante.teachers.teacher import load_teacher


def run(step: Step[Score]) -> None:
    """Measures `settings.model` (`teacher`, `init`, `matched`), writes its directory (see `dante.evaluate.measure`).

    Inputs: `teacher`, `cache`; for `init` also `init` and `eval-teacher`, for `matched` `release-matched` in its place.
    """
    settings = step.settings
    shutil.rmtree(step.out, ignore_errors=True)
    step.out.mkdir(parents=True)
    check_rendering(step.inputs["cache"], step.inputs["teacher"], settings.chat)
    missing = teacher_missing(step.inputs["teacher"])
    if settings.model == "teacher" and missing:
        kept = kept_beside(step.inputs["cache"])
        if kept is not None:
            write_kept(kept, settings, missing, step.out)
            return
        write_json(step.out / "scores.json", {"model": "teacher", "rows": [], "notes": [missing], "commands": {}})
        return
    model = subject(settings.model, step, step.seed)
    measure(model, build_suites(settings.suites), step.out, step.resources["trainer"]["threads"])


def subject(name: str, step: Step[Score] | Step[Eval], seed: int) -> Subject:
    """The model called `name` with its folder, beside the teacher where that was scored; `seed` is what rows carry."""
    inputs, settings = step.inputs, step.settings
    teacher = load_teacher(inputs["teacher"])
    folder = Path(teacher.location(inputs["teacher"])) if teacher.local else None
    if name == "teacher":
        assert folder is not None
        model_folder = folder
    else:
        folders = {"init": ("init", "model"), "matched": ("release-matched", ""), "student": ("release", "")}
        step_name, below = folders[name]
        model_folder = inputs[step_name] / below
    return Subject(
        name=name,
        folder=model_folder,
        seed=seed,
        cache=inputs["cache"],
        precision=settings.precision,
        heldout=settings.heldout,
        draw_seed=settings.seed,
        chat=settings.chat,
        kept=step.out.parent.parent / STORES,
        teacher_scores=None if name == "teacher" else inputs.get("eval-teacher"),
        teacher_folder=None if name == "teacher" else folder,
    )


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
