"""Stage `eval`: what the student is worth, beside its initialisation, its teacher and what suites compare it with.

Measures the student into `student/` and joins it with the directories of `eval-teacher`, `eval-init` and, where a
recipe has one, `eval-matched`:

    eval.json           rows of all models, paired differences, what each suite measures, and how all was made
    SUITE/items.jsonl   one line per item with every model's numerators and denominators
    SUITE/tokens.jsonl  some items token by token, with every model's side, where the suite gives them
    generations.jsonl   prompts with the cached text and the models' answers side by side

A restart begins anew.
"""

import shutil

from dante.cache.asked import check_rendering
from dante.cache.records.manifest import load_manifest
from dante.evaluate.join import side_by_side, write_joined
from dante.evaluate.measure import build_suites, measure
from dante.evaluate.score_stage import subject
from dante.evaluate.settings import Eval
from dante.run.step import Step
from dante.system.files import read_json
from dante.system.jsonl import write_lines
from dante.teachers.teacher import load_teacher


def run(step: Step[Eval]) -> None:
    """Measures the student, joins all models, writes `eval.json` and the lines beside it into `step.out`.

    Resources: `trainer.threads` (CPU threads, None: all).
    """
    settings = step.settings
    shutil.rmtree(step.out, ignore_errors=True)
    check_rendering(step.inputs["cache"], step.inputs["teacher"], settings.chat)
    # Results carry the seed that the student was trained with, so that rows of several runs can be put together.
    seed = read_json(step.inputs["release"] / "release.json")["seed"]
    student = subject("student", step, seed)
    measure(student, build_suites(settings.suites), step.out / "student", step.resources["trainer"]["threads"])

    before = {model: step.inputs.get(f"eval-{model}") for model in ("teacher", "init", "matched")}
    folders = {model: folder for model, folder in before.items() if folder is not None}
    folders["student"] = step.out / "student"
    interval = {"resamples": settings.bootstrap, "confidence": settings.confidence, "seed": step.seed}
    suites = write_joined(step.out, folders, seed, settings.precision, interval)
    records = {record.id: record for record in student.records}
    writer = load_manifest(step.inputs["cache"]).get("teacher")
    its_own = writer is None or load_teacher(step.inputs["teacher"]).wrote(writer)
    write_lines(step.out / "generations.jsonl", side_by_side(suites, records, "teacher" if its_own else "cache"))
