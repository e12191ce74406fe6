"""Whole sweeps at smoke scale, as a user starts them: shared steps, a point that fails, a kill, tuning, a search."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.sweeping import BITS, TRAINED, TWO, built, record, screen, start, sweep, written


def test_four_runs_share_steps_and_survive_a_failing_point_and_a_kill(tmp_path: Path) -> None:
    # A pack of 8 tokens holds no record: two of the four points fail, in their fit.
    arguments = ("-m", "+experiment=sft", "seed=1,2", "fit.max_tokens=256,8", *BITS, *TWO)
    process = start(tmp_path, *arguments)
    deadline = time.monotonic() + 200
    while not built(tmp_path, "fit"):
        assert process.poll() is None, screen(tmp_path).read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)  # its workers end with it
    before = {
        name: (tmp_path / "runs/.steps" / name / "step.json").stat().st_mtime_ns for name in built(tmp_path, "fit")
    }

    said = sweep(tmp_path, *arguments, code=2)
    assert {name: written(tmp_path, name) for name in before} == before
    counts = {stage: len(built(tmp_path, stage)) for stage in ("teacher", "cache", "init", "fit", "eval")}
    assert counts == {"teacher": 1, "cache": 1, "init": 1, "fit": 2, "eval": 2}
    points = record(tmp_path)["points"]
    assert sorted(p["status"] for p in points) == ["done"] * 2 + ["failed"] * 2
    failed = [p for p in points if p["status"] == "failed"]
    assert {p["arm"] for p in failed} == {"fit.max_tokens=8"}
    assert all("fit.max_tokens" in p["error"] for p in failed)
    assert said.count("error sft-smoke,fit.max_tokens=8-s") == 2  # listed at the end
    assert "2 runs done, 2 failed" in said
    [folder] = (tmp_path / "runs").glob("sweep-*")
    assert (folder / "index.html").is_file()
    assert (folder / "comparison.csv").is_file()
    assert "fit.max_tokens=8" in (folder / "index.html").read_text()

    again = sweep(tmp_path, *arguments, "dry_run=true")
    assert "2 of 4 are complete and not repeated" in again


@pytest.mark.slow
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
        scored = f"runs/dante_ablation-smoke-{arm}-lr={place}-s1/eval/student/heldout/validation.jsonl"
        lines = (tmp_path / scored).read_text()
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
