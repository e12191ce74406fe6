"""Whole sweeps at smoke scale, started as a user starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.killing import ROOT

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


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The sweep's process, in a folder of its own; the lab is found as an installed package would be."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    known |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=folder, env=known, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def sweep(folder: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    process = start(folder, *arguments, **environment)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == code, said
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
