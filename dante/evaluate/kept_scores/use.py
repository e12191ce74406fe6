"""Scores that are kept beside a cache → the directory of a step that measures its teacher, without the weights."""

import shutil
from pathlib import Path
from typing import Any

from dante.evaluate.kept_scores.keep import FILE, FOLDER, asked_of
from dante.evaluate.settings import Score
from dante.system.files import read_json, write_json


def kept_beside(cache: Path) -> Path | None:
    """The scores that a cache brings, or None."""
    folder = cache / FOLDER
    return folder if (folder / FILE).is_file() else None


def write_kept(kept: Path, settings: Score, why: str, out: Path) -> None:
    """Write a teacher's scores as if it had been measured: the suites that are kept as they are asked now.

    Args:
        kept: what `keep` has written.
        settings: of the step.
        why: the teacher is not measured.
        out: directory of the step.
    """
    content = read_json(kept / FILE)
    found, rows, others, missing = list[str](), list[Any](), list[Any](), list[str]()
    alike = all(content[key] == getattr(settings, key) for key in ("seed", "heldout", "chat"))
    for name, node in settings.suites.items():
        one = content["suites"].get(name)
        if node is None:
            continue
        if not alike or one is None or one["asked"] != asked_of(node):
            missing.append(name)
            continue
        shutil.copytree(kept / name, out / name)
        found.append(name)
        rows += one["rows"]
        others += one["others"]
    notes = [why]
    if found:
        notes.append(
            f"What stands of it in {', '.join(found)} was measured in {content['precision']} before, and came with the "
            "cache."
        )
    if missing:
        notes.append(f"Of {', '.join(missing)} nothing was kept as it is asked here.")
    write_json(
        out / FILE,
        {"model": "teacher", "suites": found, "rows": rows, "others": others, "notes": notes, "commands": {},
         "precision": content["precision"]},
    )  # fmt: skip
