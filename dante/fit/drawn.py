"""Whose answers a recipe's fits have drawn: the teacher's answer to a record is charged once, to the first of them.

A fit writes `drawn/<fingerprint of a cache>.npy`: rows of its train split, its own and those of the fits before it.
Only the fit that it starts from is read, so a bill needs nothing but a step's inputs.
"""

import shutil
from pathlib import Path

import numpy as np
from datasets import Dataset
from jaxtyping import Int64

from dante.cache.mixed.stage import OWN
from dante.fit.settings import Settings
from dante.run import store
from dante.run.step import Step
from dante.system.files import read_json

_FOLDER = "drawn"


def drawn_before(step: Step[Settings]) -> Int64[np.ndarray, " rows"]:
    """Rows of the fit's cache that the fits before it have drawn, ascending."""
    start = step.inputs.get("start")
    file = start / _FOLDER / _name(step) if start is not None else None
    return np.load(file) if file is not None and file.is_file() else np.zeros(0, dtype=np.int64)


def paid_before(step: Step[Settings], table: Dataset) -> Int64[np.ndarray, " rows"]:
    """Rows whose answers a fit before has drawn, from this cache or from the one whose answers a mixed cache took over.

    Args:
        step: the fit.
        table: its cache, tokenised.
    """
    own, start = step.inputs["cache"] / OWN, step.inputs.get("start")
    if start is None or not own.is_file():
        return drawn_before(step)
    came = read_json(own)
    file = start / _FOLDER / f"{came['cache']}.npy"
    drawn = set(np.load(file).tolist()) if file.is_file() else set()
    names = table.data.column("id").to_pylist()
    paid = [row for row, name in enumerate(names) if came["rows"].get(name) in drawn]
    return np.union1d(drawn_before(step), np.array(paid, dtype=np.int64)).astype(np.int64)


def write_drawn(step: Step[Settings], rows: Int64[np.ndarray, " rows"]) -> None:
    """Add the rows that this fit has drawn to those before it; of other caches they are handed on."""
    folder, start = step.out / _FOLDER, step.inputs.get("start")
    shutil.rmtree(folder, ignore_errors=True)
    if start is not None and (start / _FOLDER).is_dir():
        shutil.copytree(start / _FOLDER, folder)
    folder.mkdir(exist_ok=True)
    np.save(folder / _name(step), np.union1d(drawn_before(step), rows).astype(np.int64))


def _name(step: Step[Settings]) -> str:
    cache: Path = step.inputs["cache"]
    described = store.read_description(cache) or {}
    return f"{described.get('fingerprint', cache.name)}.npy"
