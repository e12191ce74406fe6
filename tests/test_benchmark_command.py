"""`python -m dante.evaluate measure`: what it writes, what it refuses, and that SIGKILL costs one batch."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dante.errors import DanteError
from dante.evaluate.__main__ import main
from dante.evaluate.measure_command import _run_of, settings
from tests.benchmark_sets import write_sets

ROOT = Path(__file__).parents[1]
SUITES = ("arc_challenge_25shot", "gsm8k_cot_8shot", "mmlu_pro_5shot_v1")
ASKED = [
    f"suite=[{','.join(f'benchmark/{name}' for name in SUITES)}]",
    *("eval.limit=24", "data.benchmarks=folder", "trainer.precision=fp32"),
    *("trainer.threads=1", "eval.benchmarks.batch=1"),
]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"), items=24)


def started(model: Path, sets: Path, folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "dante.evaluate",
        "measure",
        str(model),
        "--name",
        "it",
        *ASKED,
        f"data.folder={sets}",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(model: Path, sets: Path, folder: Path) -> str:
    process = started(model, sets, folder)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    return out


def results(folder: Path) -> dict[str, Any]:
    out = folder / "runs" / "measured" / "it"
    found: dict[str, Any] = {str(p.relative_to(out)): p.read_text() for p in sorted(out.rglob("*.jsonl"))}
    return found | {"eval": json.loads((out / "eval.json").read_text())}


@pytest.mark.slow
def test_sigkill_costs_one_batch(model: Path, sets: Path, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    said = finished(model, sets, undisturbed)
    assert "runs/measured/it/eval.json" in said
    process, kept = started(model, sets, killed), killed / "runs" / ".answers"
    for count in (3, 30):  # in the first benchmark, and in the second
        while len(list(kept.glob("*/*.json"))) < count:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (killed / "runs" / "measured" / "it").exists()
        before = {path: path.stat().st_mtime_ns for path in kept.glob("*/*.json")}
        process = started(model, sets, killed)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing was asked again
    assert results(killed) == results(undisturbed)
    assert len(list(kept.glob("*/*.json"))) == 3 * 24
    rows = results(killed)["eval"]["rows"]
    whole = [row for row in rows if "/" not in row["task"]]
    assert {(row["task"], row["n"], row["limit"]) for row in whole} == {
        ("arc_challenge_25shot", 24, None), ("gsm8k_cot_8shot", 24, None), ("mmlu_pro_5shot_v1", 24, 24),
    }  # fmt: skip


@pytest.mark.vllm
def test_vllm_gives_the_same_numbers(model: Path, sets: Path, tmp_path: Path) -> None:
    """In fp32, by its own kernels: the same choices, and the same numbers at the ends of answers."""
    python = os.environ.get("DANTE_VLLM_PYTHON", "")
    if subprocess.run([python, "-c", "import lm_eval, hydra, vllm"], capture_output=True).returncode:
        pytest.skip("the environment of vLLM has not the lab in it: pip install -c constraints.txt -e . there")
    asked = ["suite=[benchmark/arc_challenge_5shot,benchmark/gsm8k_0shot]", "eval.limit=12", "data.benchmarks=folder",
             f"data.folder={sets}", "trainer.precision=fp32"]  # fmt: skip
    vllm = ["eval/backend=vllm", "eval.benchmarks.backend.max_context=1024",
            "eval.benchmarks.backend.enforce_eager=true"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    for name, interpreter, more in (("ours", sys.executable, []), ("theirs", python, vllm)):
        command = [interpreter, "-m", "dante.evaluate", "measure", str(model), "--name", name, *asked, *more]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = (
        {
            (row["task"], row["metric"]): (row["value"], row["n"], row["harness_version"])
            for row in json.loads((tmp_path / "runs" / "measured" / name / "eval.json").read_text())["rows"]
        }
        for name in ("ours", "theirs")
    )
    theirs = {key: value for key, value in theirs.items() if key[1] != "math_verified"}  # a package of one of them
    assert {key: value for key, value in ours.items() if key[1] != "math_verified"} == theirs
    assert len(theirs) == 4


def test_a_run_s_release_knows_what_its_training_took(tmp_path: Path) -> None:
    """`measure runs/NAME/release`: the scoreboard finds its hours."""
    release = tmp_path / "runs" / "mine" / "release"
    release.mkdir(parents=True)
    assert _run_of(release) is None
    (release.parent / "fit").mkdir()
    (release.parent / "fit" / "summary.json").write_text("{}")
    assert _run_of(release) == str(release.parent)
    assert _run_of(release.parent / "fit") is None


def test_what_is_no_setting_of_an_evaluation_is_refused() -> None:
    with pytest.raises(DanteError, match="fit.lr=1 is no setting|'fit.lr=1' is no setting"):
        settings(["fit.lr=1"])
    with pytest.raises(DanteError, match="limitt"):
        settings(["eval.limitt=1"])
    with pytest.raises(DanteError, match="nowhere"):
        settings(["data.benchmarks=nowhere"])
    chosen = settings(["suite=[benchmark/piqa_5shot]", "eval.limit=7"])["eval"]["suites"]
    assert list(chosen) == ["piqa_5shot"]
    assert chosen["piqa_5shot"]["limit"] == 7


def test_a_command_that_is_none_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["mesure"])
    assert "measure" in capsys.readouterr().err
    assert main(["scoreboard", "/nowhere/at/all"]) == 2
