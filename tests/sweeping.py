"""Whole sweeps at smoke scale; their points are started as users' are."""

import json
import os
from pathlib import Path
from typing import Any

from tests.warm import ROOT, Started

CHEAP = ("scale=smoke", "logger=none", "eval.choices=0", "eval.generations=0", "eval.init_generations=0")
BITS = (
    *CHEAP,
    "eval.retention=false",
    "budget=study",
    "only=[teacher,cache,init,fit,release,eval-teacher,eval-init,eval]",
)
TRAINED = (*CHEAP, "budget=study", "only=[teacher,cache,init,fit]")
PREPARED = (*CHEAP, "only=[teacher,cache,init]")
TWO = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def start(folder: Path, *arguments: str, **environment: str) -> Started:
    """The sweep's process, in a folder of its own; the lab is found as an installed package would be."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    known |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    screen(folder).write_text("")
    return Started("train", list(arguments), screen(folder), known, folder)


def screen(folder: Path) -> Path:
    """What the last sweep that was started in a folder printed."""
    return folder / "screen.txt"


def sweep(folder: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    found = start(folder, *arguments, **environment).wait(400)
    said = screen(folder).read_text()
    assert found == code, said
    return said


def written(folder: Path, step: str) -> int:
    """When a finished step was finished."""
    return (folder / "runs" / ".steps" / step / "step.json").stat().st_mtime_ns


def record(folder: Path) -> dict[str, Any]:
    [path] = (folder / "runs").glob("*/sweep.json")
    return json.loads(path.read_text())


def built(folder: Path, stage: str) -> list[str]:
    """Finished steps of a stage in the store."""
    return sorted(p.name for p in (folder / "runs" / ".steps").glob(f"{stage}-*") if "." not in p.name)
