"""A teacher's finished scores → a folder beside its cache: results and what was asked, and no text of anybody's.

scores/scores.json          per suite its settings, rows and notes; whose they are, and how they were measured
scores/SUITE/suite.json     as `dante.evaluate.measure` writes them
scores/SUITE/items.jsonl
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dante.cache.records.manifest import load_manifest
from dante.cache.shipped import SCORES as FOLDER
from dante.cache.shipped import answers_of
from dante.errors import DanteError
from dante.run.store import partial_of, read_description, take_the_place
from dante.system.files import read_json, write_json
from dante.teachers.teacher import FILE_NAME, load_teacher

FILE = "scores.json"
# What decides no number: whether programs may run at all, what runs the model, where items lie.
_NO_PART = {"allowed", "limits"}
_NO_PART_OF_COMMON = {"backend", "sets"}


def asked_of(suite: Mapping[str, Any]) -> dict[str, Any]:
    """A suite's settings as far as they decide its numbers."""
    asked = {key: value for key, value in suite.items() if key not in _NO_PART}
    if isinstance(common := asked.get("common"), Mapping):
        asked["common"] = {key: value for key, value in common.items() if key not in _NO_PART_OF_COMMON}
    return asked


def keep(step: Path, cache: Path) -> list[str]:
    """Keep a finished step's scores of a teacher beside a cache; returns the suites.

    Args:
        step: directory of a `score` step, such as a run's `eval-teacher`.
        cache: the teacher's.

    Raises:
        DanteError: the step is none, is another model's, or has measured nothing.
    """
    described, path = read_description(step), step / FILE
    if described is None or not path.is_file():
        raise DanteError(
            f"{step} is no finished step of scores", where=str(step), allowed="a run's eval-teacher", fix="name it"
        )
    scores, settings = read_json(path), described["settings"]
    if scores["model"] != "teacher" or not scores["suites"]:
        what = f"scores of the {scores['model']}" if scores["model"] != "teacher" else "no suite"
        raise DanteError(f"{step} holds {what}", where=str(step), allowed="a teacher's scores, at least of one suite")
    manifest = load_manifest(cache)
    _check_wrote(step, described, manifest, cache)
    out = partial_of(cache / FOLDER)
    shutil.rmtree(out, ignore_errors=True)
    suites = {}
    for name in scores["suites"]:
        (out / name).mkdir(parents=True)
        for file in sorted((step / name).glob("items*.jsonl")):
            shutil.copyfile(file, out / name / file.name)
        shutil.copyfile(step / name / "suite.json", out / name / "suite.json")
        suites[name] = {
            "asked": asked_of(settings["suites"][name]),
            "rows": [row for row in scores["rows"] if row["task"].partition("/")[0] == name],
            "others": [row for row in scores["others"] if row["task"].partition("/")[0] == name],
        }
    common = {key: settings[key] for key in ("seed", "heldout", "chat")}
    facts = {
        "teacher": manifest.get("teacher"),
        "answers": answers_of(manifest),
        "precision": scores["precision"],
        **common,
    }
    write_json(out / FILE, facts | {"suites": suites})
    take_the_place(cache / FOLDER)
    return list(suites)


def _check_wrote(step: Path, described: Mapping[str, Any], manifest: Mapping[str, Any], cache: Path) -> None:
    """Refuses scores of another teacher than the one that wrote the cache, where the measured one is still there."""
    folder = step.resolve().parent / f"teacher-{(described.get('inputs') or {}).get('teacher')}"
    writer = manifest.get("teacher")
    if writer is None or not (folder / FILE_NAME).is_file() or (measured := load_teacher(folder)).wrote(writer):
        return
    raise DanteError(
        f"{step} measured {measured.name}, and the cache was written by {writer.get('name')}",
        where=str(cache),
        allowed="scores of the teacher that wrote the cache",
        fix="name the cache of that teacher, or a step that measured this one",
    )
