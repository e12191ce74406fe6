"""Whole sweeps at smoke scale, as a user starts them: shared steps, a point that fails, a kill, the launchers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
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


def test_six_runs_share_steps_and_survive_a_failing_point_and_a_kill(tmp_path: Path) -> None:
    # A pack of 8 tokens holds no record: three of the six points fail, in their fit.
    arguments = ("-m", "+experiment=sft", "seed=1,2,3", "fit.max_tokens=256,8", *BITS, *TWO)
    process = start(tmp_path, *arguments)
    deadline = time.monotonic() + 200
    while not built(tmp_path, "fit"):
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)  # its workers end with it
    before = {
        name: (tmp_path / "runs/.steps" / name / "step.json").stat().st_mtime_ns for name in built(tmp_path, "fit")
    }

    said = sweep(tmp_path, *arguments, code=2)
    assert {name: written(tmp_path, name) for name in before} == before
    counts = {stage: len(built(tmp_path, stage)) for stage in ("teacher", "cache", "init", "fit", "eval")}
    assert counts == {"teacher": 1, "cache": 1, "init": 1, "fit": 3, "eval": 3}
    points = record(tmp_path)["points"]
    assert sorted(p["status"] for p in points) == ["done"] * 3 + ["failed"] * 3
    failed = [p for p in points if p["status"] == "failed"]
    assert {p["arm"] for p in failed} == {"fit.max_tokens=8"}
    assert all("fit.max_tokens" in p["error"] for p in failed)
    assert said.count("error sft-smoke,fit.max_tokens=8-s") == 3  # listed at the end
    assert "3 runs done, 3 failed" in said
    [folder] = (tmp_path / "runs").glob("sweep-*")
    assert (folder / "index.html").is_file()
    assert (folder / "comparison.csv").is_file()
    assert "fit.max_tokens=8" in (folder / "index.html").read_text()

    again = sweep(tmp_path, *arguments, "dry_run=true")
    assert "3 of 6 are complete and not repeated" in again


def test_equal_tuning_takes_what_validation_prefers_and_runs_it_with_every_seed(tmp_path: Path) -> None:
    arguments = (
        "+sweep=dante_ablation",
        "scale=smoke",
        "seed=1,2",
        'hydra.sweeper.only_arms=[[shuffled,ce,"off"]]',
        *TWO,
    )
    said = sweep(tmp_path, *arguments)
    found = record(tmp_path)
    [arm] = found["tuning"]["scores"]
    scores = found["tuning"]["scores"][arm]
    assert set(scores) == {"0.0005", "0.001", "0.002"}
    best = min(scores, key=lambda place: scores[place])
    assert found["tuning"]["chosen"] == {arm: {"fit.lr": best}}
    for place, score in scores.items():
        lines = (tmp_path / f"runs/dante_ablation-smoke-{arm}-lr={place}-s1/eval/student/validation.jsonl").read_text()
        items = [json.loads(line) for line in lines.splitlines()]
        assert score == pytest.approx(sum(i["bits"] for i in items) / sum(i["bytes"] for i in items))
    final = [p for p in found["points"] if p["phase"] == "final"]
    assert [(p["seed"], p["tuned"]) for p in final] == [(1, {"fit.lr": best}), (2, {"fit.lr": best})]
    assert len(built(tmp_path, "fit")) == 4  # the chosen one of the tuning is not trained twice
    assert "4 runs done" in said


def test_a_point_that_cannot_be_checked_is_told_first_and_the_others_run(tmp_path: Path) -> None:
    said = sweep(tmp_path, "-m", "+experiment=sft", "seed=1", "fit.lr=1e-3,-1", *TRAINED, code=2)
    assert said.index("fit.lr=-1") < said.index("[1/1] sft-smoke,fit.lr=0.001-s1")
    assert [p["status"] for p in record(tmp_path)["points"]] == ["done", "failed"]


def test_a_stop_reaches_the_points_of_all_workers_and_the_same_command_continues(tmp_path: Path) -> None:
    long = ("fit.steps=2000", "fit.checkpoint_every_steps=2000")
    arguments = ("-m", "+experiment=sft", "seed=1,2,3", *CHEAP, "only=[teacher,cache,init,fit]", *long, *TWO)
    process = start(tmp_path, *arguments)
    deadline = time.monotonic() + 200
    while sum("  step " in log.read_text() for log in (tmp_path / "runs").glob("*/log.txt")) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "stopped by SIGTERM in a sweep; the same command continues" in said
    logs = [log.read_text() for log in (tmp_path / "runs").glob("*/log.txt")]
    assert len(logs) == 2  # the third was not started
    assert all("stopped by SIGTERM after step" in log for log in logs)
    assert len(list((tmp_path / "runs/.steps").glob("fit-*.partial/checkpoints/step-*.ckpt"))) == 2


def test_submitit_runs_a_sweep_on_this_machine(tmp_path: Path) -> None:
    launcher = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10", "hydra.launcher.cpus_per_task=1")
    said = sweep(tmp_path, "-m", "+experiment=sft", "seed=1,2", *PREPARED, *launcher)
    assert "2 runs done" in said
    assert [p["status"] for p in record(tmp_path)["points"]] == ["done", "done"]
    assert len(built(tmp_path, "init")) == 1


@pytest.mark.slow
def test_a_search_runs_its_best_with_every_seed(tmp_path: Path) -> None:
    space = ("fit.lr=tag(log,interval(1e-4,1e-2))", "hydra.sweeper.tune.trials=3", "hydra.sweeper.tune.at_once=2")
    arguments = ("-m", "hydra/sweeper=optuna", "+experiment=sft", "seed=1,2", *space, *BITS, *TWO)
    said = sweep(tmp_path, *arguments)
    found = record(tmp_path)
    scores = found["tuning"]["scores"]["sft"]
    assert len(scores) == 3
    best = min(scores, key=lambda place: scores[place])
    assert [p["tuned"]["fit.lr"] for p in found["points"] if p["phase"] == "final"] == [best, best]
    assert "4 runs done" in said
    again = sweep(tmp_path, *arguments)  # the journal knows its trials, the store the best ones' runs
    assert "[1/" not in again
    assert "4 runs done" in again
    assert record(tmp_path)["tuning"]["scores"] == found["tuning"]["scores"]


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
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 2, said
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
