"""The SLURM script: a job that is warned stops after a checkpoint and is queued again; no other end queues it.

`srun` and `scontrol` are stand-ins on the PATH: the first runs its command once, the second writes down what it is
told. The script, the signal and the run are real.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRUN = """#!/usr/bin/env bash
shift  # --kill-on-bad-exit=1
[ "$1" = python ] && [ "$2" = train.py ] && [ "$3" = scale=a100x8 ] || exit 99
shift 3
"{python}" train.py "$@" & echo $! > "{folder}/pid"
wait $!
"""
SCONTROL = """#!/usr/bin/env bash
echo "$@" >> "{folder}/told"
"""


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        path = folder / name
        path.write_text(text.format(python=sys.executable, folder=folder))
        path.chmod(0o755)
    (folder / "pid").unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    environment |= {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "77"}
    command = ["bash", "launch/a100x8.sbatch", "+experiment=sft", "scale=smoke", f"run.dir={folder}/runs/run", *more]
    log = (folder / "log").open("w")
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True)


def send(folder: Path, number: signal.Signals, process: subprocess.Popen[str]) -> int:
    """Once the fit is under way, send the signal to the run, as srun does; returns the job's exit code."""
    deadline = time.monotonic() + 120
    while "  step " not in (folder / "log").read_text():
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(int((folder / "pid").read_text()), number)
    return process.wait(60)


@pytest.mark.slow
def test_a_job_that_is_warned_is_queued_again_and_one_that_is_cancelled_is_not(tmp_path: Path) -> None:
    endless = ("logger=none", "fit.steps=100000", "fit.checkpoint_every_steps=100000")
    assert send(tmp_path, signal.SIGTERM, start(tmp_path, *endless)) == 143
    assert not (tmp_path / "told").exists()
    assert send(tmp_path, signal.SIGUSR1, start(tmp_path, *endless)) == 138
    assert (tmp_path / "told").read_text() == "requeue 77\n"
    said = (tmp_path / "log").read_text()
    assert "stopped by SIGUSR1 after step" in said
    assert said.endswith("requeued as job 77\n")
    assert start(tmp_path, "logger=none", "fit.steps=nothing").wait(60) == 2
    assert (tmp_path / "told").read_text() == "requeue 77\n"
