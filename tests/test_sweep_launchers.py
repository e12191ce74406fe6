"""Sweeps with several workers and on queues: what reaches the points, and what a queue is given."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sweeping import CHEAP, PREPARED, TWO, built, record, screen, start, sweep


@pytest.mark.slow
def test_a_stop_reaches_the_points_of_all_workers_and_the_same_command_continues(tmp_path: Path) -> None:
    long = ("fit.steps=2000", "fit.checkpoint_every_steps=2000")
    arguments = ("-m", "+experiment=sft", "seed=1,2,3", *CHEAP, "only=[teacher,cache,init,fit]", *long, *TWO)
    process = start(tmp_path, *arguments)
    deadline = time.monotonic() + 200
    while sum("  step " in log.read_text() for log in (tmp_path / "runs").glob("*/log.txt")) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(120) == 143
    said = screen(tmp_path).read_text()
    assert "stopped by SIGTERM in a sweep; the same command continues" in said
    logs = [log.read_text() for log in (tmp_path / "runs").glob("*/log.txt")]
    assert len(logs) == 2  # the third was not started
    assert all("stopped by SIGTERM after step" in log for log in logs)
    assert len(list((tmp_path / "runs/.steps").glob("fit-*.partial/checkpoints/step-*.ckpt"))) == 2


@pytest.mark.slow
def test_submitit_runs_a_sweep_on_this_machine(tmp_path: Path) -> None:
    launcher = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10", "hydra.launcher.cpus_per_task=1")
    said = sweep(tmp_path, "-m", "+experiment=sft", "seed=1,2", *PREPARED, *launcher)
    assert "2 runs done" in said
    assert [p["status"] for p in record(tmp_path)["points"]] == ["done", "done"]
    assert len(built(tmp_path, "init")) == 1


@pytest.mark.slow
def test_a_job_that_the_queue_kills_is_one_failed_point(tmp_path: Path) -> None:
    launcher = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10", "hydra.launcher.cpus_per_task=1")
    process = start(tmp_path, "-m", "+experiment=sft", "seed=1,2", *PREPARED, *launcher)
    owner = tmp_path / "runs" / "sft-smoke-s2" / ".lock.owner"
    deadline = time.monotonic() + 200
    while not owner.is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    point = json.loads(owner.read_text())["pid"]
    worker = subprocess.run(["ps", "-o", "ppid=", "-p", str(point)], capture_output=True, text=True, check=True).stdout
    os.kill(int(worker), signal.SIGKILL)
    code, said = process.wait(200), screen(tmp_path).read_text()
    assert code == 2, said
    assert "1 run done, 1 failed" in said
    one, other = record(tmp_path)["points"]
    assert (one["status"], other["status"]) == ("done", "failed")
    assert "ended without a result: killed" in other["error"]


# Stand-ins for SLURM's commands: sbatch writes the script down and runs each task of its array, srun its command.
SBATCH = """#!/usr/bin/env bash
cp "$1" "{folder}/submitted.sh"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
for task in $(seq 0 "$last"); do
  SLURM_JOB_ID=7$task SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 \\
    SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_JOB_NODELIST=localhost bash "$1" > "{folder}/task-$task" 2>&1 &
done
echo "Submitted batch job 77"
"""
SRUN = """#!/usr/bin/env bash
while [ "${{1#--}}" != "$1" ]; do case "$1" in --output|--error) shift 2;; *) shift;; esac; done
exec "$@"
"""
SACCT = """#!/usr/bin/env bash
printf 'JobID|State|NodeList\\n77_[0-1]|RUNNING|localhost\\n'
"""


def test_the_slurm_launcher_submits_one_array_whose_script_runs_every_point(tmp_path: Path) -> None:
    tools = tmp_path / "slurm"
    tools.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT), ("scancel", "#!/bin/sh\n")):
        (tools / name).write_text(text.format(folder=tools))
        (tools / name).chmod(0o755)
    launcher = ("hydra/launcher=slurm", "hydra.launcher.partition=gpu", "hydra.launcher.array_parallelism=1")
    path = f"{tools}:{os.environ['PATH']}"
    said = sweep(tmp_path, "-m", "+experiment=sft", "seed=1,2", *PREPARED, *launcher, PATH=path)
    assert "2 runs done" in said, [p.read_text() for p in tools.glob("task-*")]
    script = (tools / "submitted.sh").read_text()
    flags = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH ")]
    asked = {key: value.strip("'") for key, _, value in (flag.partition("=") for flag in flags)}
    assert asked["array"] == "0-1%1"  # both points in one array, so many at a time
    assert (asked["partition"], asked["gpus-per-node"], asked["cpus-per-task"]) == ("gpu", "1", "8")
    assert (asked["time"], asked["signal"], asked["job-name"]) == ("1440", "USR2@300", "dante")
    assert (asked["nodes"], asked["ntasks-per-node"]) == ("1", "1")
    assert subprocess.run(["bash", "-n", str(tools / "submitted.sh")]).returncode == 0
    assert "srun" in script
    assert sys.executable in script
