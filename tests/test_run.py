"""Whole runs at smoke scale, as a user starts them: every stage's files are there; a killed run resumes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from dante.run import pipeline
from tests.killing import ROOT, TIMING, Run
from tests.test_config import EXPERIMENTS, composed

SMOKE = ("+experiment=dante_mosaic", "scale=smoke")


def run_here(run_dir: Path, experiment: str, *overrides: str) -> None:
    """A run in this process, which has everything imported."""
    fixed = (f"+experiment={experiment}", "scale=smoke", "logger=none", f"run.dir={run_dir}")
    pipeline.run(composed(*fixed, *overrides))


def metrics(run_dir: Path, label: str = "fit") -> list[dict[str, Any]]:
    lines = (run_dir / label / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One complete run of DANTE, shared by the tests below."""
    run_dir = tmp_path_factory.mktemp("runs") / "dante"
    started = [sys.executable, "train.py", *SMOKE, "logger=none", f"run.dir={run_dir}"]  # as a user starts it
    result = subprocess.run(started, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return run_dir


def test_a_run_ends_with_every_stage_s_files(finished: Path) -> None:
    expected = {
        "teacher": ["teacher.json", "model/config.json"],
        "cache": ["manifest.json"],
        "init": ["init.json", "model/config.json"],
        "fit": ["metrics.jsonl", "summary.json", "student.safetensors"],
        "release": ["config.json", "README.md", "chat_template.jinja", "generation_config.json"],
        "eval-teacher": ["scores.json", "heldout/suite.json", "heldout/items.jsonl", "heldout/reference.safetensors"],
        "eval-init": ["scores.json", "heldout/items.jsonl", "retention/items.jsonl", "generation/answers.jsonl"],
        "eval": ["eval.json", "heldout/items.jsonl", "retention/items.jsonl", "generations.jsonl"],
        "report": ["index.html", "report.md"],
    }
    for step, files in expected.items():
        for name in ["step.json", *files]:
            assert (finished / step / name).is_file(), f"{step}/{name}"
    rows = metrics(finished)
    assert [r["step"] for r in rows] == list(range(1, 9))
    for key in ("loss", "loss/cwce", "loss/tea", "weight/cwce", "weight/tea", "lr", "grad_norm", "supervised_tokens"):
        assert key in rows[0]
    results = json.loads((finished / "eval" / "eval.json").read_text())["rows"]
    models = {r["model"] for r in results}
    assert {"teacher", "init", "student", "unigram", "trigram"} <= models
    # On the same held-out answers: a step's own loss is of its own records, and the curriculum's grow harder.
    bits = {r["model"]: r["value"] for r in results if (r["task"], r["metric"]) == ("heldout", "bits_per_byte")}
    assert bits["student"] < bits["init"]


def test_the_release_holds_the_trained_weights(finished: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(finished / "release", dtype=torch.float32)
    trained = load_file(finished / "fit" / "student.safetensors")
    released = dict(model.named_parameters())
    assert set(released) == set(trained)
    for name, weight in trained.items():
        assert torch.equal(released[name], weight.bfloat16().float()), name
    tokenizer = AutoTokenizer.from_pretrained(finished / "release")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model.generate(**prompt, max_new_tokens=3, do_sample=False).shape[1] > prompt["input_ids"].shape[1]


def test_a_second_start_does_nothing_and_seeds_share_what_is_equal(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.parent.glob(".steps/*/step.json")}
    out = Run(finished, SMOKE).finish()
    assert out.count("is complete") == 9
    assert {p: p.stat().st_mtime_ns for p in finished.parent.glob(".steps/*/step.json")} == before
    run_here(finished.parent / "seed2", "dante_mosaic", "seed=2", "only=init")
    assert os.readlink(finished.parent / "seed2" / "init") == os.readlink(finished / "init")


def test_plain_fine_tuning_runs_through_on_answers_to_prompts_of_one_s_own(finished: Path) -> None:
    """With every default of a generated cache: its filters leave answers, and its hold-outs fit twenty prompts."""
    prompts = finished.parent / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Question {i}?"}) + "\n" for i in range(20)))
    run_dir = finished.parent / "own"
    chosen = ["cache=generated", "engine=transformers", "engine.dtype=float32", "prompts=jsonl"]
    run_here(run_dir, "sft", *chosen, f"prompts.path={prompts}")
    assert (run_dir / "report" / "index.html").is_file()
    steps = json.loads((run_dir / "manifest.json").read_text())["steps"]
    assert sum(len(metrics(run_dir, label)) for label, step in steps.items() if step["stage"] == "fit") == 8
    manifest = json.loads((run_dir / "cache" / "manifest.json").read_text())
    assert manifest["generated"]["finish_reasons"]["stop"] >= 10
    assert manifest["counts"]["heldout"] >= 2


# They differ from one that runs here in a weight or a switch, which tests of composition and of losses look at.
ALIKE = ("ads_fixed", "dante_full", "entropy_penalty", "scratch")


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name
        for name in EXPERIMENTS
        if name not in ("dante_mosaic", "sft")
    ],
)
def test_every_other_experiment_runs_through(experiment: str, finished: Path) -> None:
    run_dir = finished.parent / experiment
    run_here(run_dir, experiment)
    assert (run_dir / "report" / "index.html").is_file()
    steps = json.loads((run_dir / "manifest.json").read_text())["steps"]
    # A fit that is as long as its cache has no part of the budget.
    fits = [label for label, step in steps.items() if step["stage"] == "fit" and label != "fit-mixed"]
    assert sum(len(metrics(run_dir, label)) for label in fits) == 8


def test_the_card_s_fidelity_runs(finished: Path) -> None:
    run_dir = finished.parent / "card"
    run_here(run_dir, "dante_mosaic", "fidelity=card", "fit.precision=bf16", "only=fit", "fit.steps=2")
    assert metrics(run_dir)[0]["weight/tea"] == 1.0


def test_a_killed_fit_continues_to_the_same_weights_and_losses(finished: Path) -> None:
    settings = ("fit.steps=160", "fit.checkpoint_every_steps=7", "only=fit")
    fit = Run(finished.parent / "killed", (*SMOKE, *settings))
    assert fit.kill_when(lambda: any(fit.store.glob("fit-*.partial/checkpoints/step-*.ckpt")), 0.0)
    assert not (fit.directory / "fit").exists()
    assert "continues after step" in fit.finish()
    weights, rows = (fit.directory / "fit" / "student.safetensors").read_bytes(), metrics(fit.directory)
    assert [row["step"] for row in rows] == list(range(1, 161))

    assert "continues" not in fit.finish("on_existing=overwrite")
    assert metrics(fit.directory) == rows
    assert (fit.directory / "fit" / "student.safetensors").read_bytes() == weights


def test_a_fit_killed_after_its_last_step_is_finished_without_being_repeated(finished: Path) -> None:
    kept = ["fit.keep_checkpoints=1", "fit.checkpoint_every_steps=4", "only=fit"]
    run_dir = finished.parent / "kept"
    run_here(run_dir, "dante_mosaic", *kept)
    done = (run_dir / "fit").resolve()
    weights, rows = (done / "student.safetensors").read_bytes(), metrics(run_dir)
    for lost in (["step.json"], ["step.json", "summary.json", "student.safetensors"]):
        for name in lost:
            (done / name).unlink()
        partial = done.rename(done.with_name(done.name + ".partial"))
        assert (partial / "checkpoints" / "step-000008.ckpt").is_file()
        run_here(run_dir, "dante_mosaic", *kept)
        assert (done / "student.safetensors").read_bytes() == weights
        assert metrics(run_dir) == rows
