"""A loss, a suite, a stage and an engine of somebody else's: two files each, as README and docs/extending.md show."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dante.errors import DanteError
from dante.evaluate.measure import check_measurement
from dante.evaluate.suite import Item, Measurement
from dante.evaluate.suites.retention import Retention
from dante.losses.one_pass import vocabulary_pass
from dante.losses.tokens import SupervisedTokens
from dante.losses.vocabulary.head import Head
from dante.run.parts import build, extensions_in, locate
from dante.run.stages import stage_error
from dante.system.files import sha256
from tests.test_config import composed

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "docs" / "extending.md"]
BLOCK = re.compile(r"```(?:python|yaml)\n((?:# @package \S+\n)?# (\S+)\n.*?)```", re.DOTALL)
CHEAP = ["scale=smoke", "logger=none", "eval.retention=false", "eval.choices=0", "eval.generations=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, written to a folder on the search path, and nothing else."""
    found = tmp_path_factory.mktemp("mine")
    for page in PAGES:
        for content, name in BLOCK.findall(page.read_text(encoding="utf-8")):
            path = found / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    return found


def run(folder: Path, *words: str) -> Path:
    """A command of the pages at smoke scale, in a process of its own; returns the run's directory."""
    where = folder / "runs" / re.sub(r"\W+", "-", words[-1])
    typed = [f"hydra.searchpath=[file://{folder}/conf]", *words, *CHEAP, f"run.dir={where}"]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "train.py", *typed], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return where


def command(part: str) -> list[str]:
    """The words of the pages' command that names a part."""
    lines = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    (line,) = [line for line in lines if line.startswith("python train.py") and part in line]
    return [word for word in shlex.split(line, comments=True)[2:] if not word.startswith(("scale=", "run.name="))]


def test_every_part_is_two_files(folder: Path) -> None:
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".py", ".yaml")}
    assert files == {
        "dante_mine/focal.py", "conf/loss/focal.yaml", "dante_mine/my_texts.py", "conf/suite/my_texts.yaml",
        "dante_mine/count.py", "conf/recipe/counted.yaml", "dante_mine/parrot.py", "conf/engine/parrot.yaml",
    }  # fmt: skip


def test_a_loss_and_a_suite_of_the_user_s_are_trained_measured_and_reported(folder: Path) -> None:
    done = run(folder, *command("focal"), *[word for word in command("my_texts") if word.startswith("suite=")])
    rows = [json.loads(line) for line in (done / "fit" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < row["loss/focal"] < row["loss/ce"] for row in rows)
    result = json.loads((done / "eval" / "eval.json").read_text())
    mine = {row["model"]: row for row in result["rows"] if row["task"] == "my_texts"}
    assert mine.keys() == {"teacher", "init", "student"}
    assert all(row["n"] == 2 and row["value"] > 0 for row in mine.values())
    assert [pair["metric"] for pair in result["pairs"] if pair["task"] == "my_texts"] == ["bits_per_byte"]
    page = (done / "report" / "index.html").read_text()
    assert "texts of mine, n = 2" in page
    assert "(1 − p)" in page  # the loss's own sentence


def test_a_stage_of_the_user_s_runs_behind_what_it_reads(folder: Path) -> None:
    done = run(folder, *command("counted"))
    answers = [json.loads(line)["answers"]["student"] for line in (done / "eval" / "generations.jsonl").open()]
    words = json.loads((done / "count" / "words.json").read_text())["words"]
    assert words == sum(len(answer["text"].split()) for answer in answers)


def test_an_engine_of_the_user_s_writes_a_cache(folder: Path) -> None:
    done = run(folder, *command("parrot"), "only=[teacher,cache]")
    manifest = json.loads((done / "cache" / "manifest.json").read_text())
    assert manifest["engine"]["name"] == "parrot"
    assert manifest["counts"]["records"] > 0


@pytest.mark.parametrize("name", ["os.system", "dantesque.Loss", "dante", "subprocess.run"])
def test_what_is_neither_the_lab_s_nor_an_extension_s_is_no_part(name: str) -> None:
    with pytest.raises(DanteError, match="not a part of this lab"):
        locate(name)


def test_a_stage_that_is_none_is_said_with_those_that_are() -> None:
    assert "teacher, cache, calibration, init, fit" in str(stage_error("fits"))
    assert "a module that can be imported" in str(stage_error("dante_nobody.stage"))
    assert stage_error("fit") is None


LOSS = """
from dante.losses.base import LinearLoss
class Mine(LinearLoss):
    def __init__(self, weight, name=""):
        {init}
    {body}
"""
SUPER = "super().__init__(weight, name)"
BAD_LOSSES = {
    "whole rows": (SUPER, "per_token = lambda self, logits, tile: logits", r"shape \[\d+, \d+\]"),
    "a mean": (SUPER, "per_token = lambda self, logits, tile: logits.mean()", r"shape \[\]"),
    "nothing": (SUPER, "per_token = lambda self, logits, tile: None", "gives NoneType"),
    "no gradient": (SUPER, "per_token = lambda self, logits, tile: logits.detach().sum(-1)", "do not depend"),
    "neither": (SUPER, "pass", "defines neither per_token nor on_tile"),
    "no super": ("self.weight = weight", "pass", "has no 'buffers'.*super"),
    "an error of its own": ("raise ValueError('boom')", "pass", "could not be built: ValueError: boom"),
}  # fmt: skip


@pytest.mark.parametrize(("init", "body", "said"), BAD_LOSSES.values(), ids=BAD_LOSSES)
def test_a_loss_that_somebody_has_just_written_is_told_what_is_wrong_with_it(
    init: str, body: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"dante_{re.sub('[^a-z0-9]', '_', tmp_path.name)}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "mine.py").write_text(LOSS.format(init=init, body=body))
    monkeypatch.syspath_prepend(tmp_path)
    node = f"{{_target_: {package}.mine.Mine, weight: {{_target_: dante.losses.schedule.Constant, value: 1.0}}}}"
    with pytest.raises(DanteError, match=said):
        seen(f"+losses.mine={node}")


def seen(typed: str) -> None:
    """Compose, build and show a loss one tile."""
    loss = build(composed("+experiment=sft", "scale=smoke", typed)["losses"]["mine"], name="mine")
    tokens = SupervisedTokens(torch.zeros(3, dtype=torch.long), torch.zeros(3, dtype=torch.long), {}, 3, 1)
    hidden, weight = torch.randn(3, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    vocabulary_pass(hidden, Head(weight), [loss], {"mine": 1.0}, tokens, torch.float32, None)


def test_what_a_suite_gives_back_is_checked() -> None:
    suite = Retention(wanted=True)
    item = Item("a", "a", {"bits_per_byte": (1.0, 2.0)})
    check_measurement(suite, Measurement([item]))
    for wrong, said in (
        ([item], "gives list"),
        (Measurement([item, item]), "2 items the id 'a'"),
        (Measurement([Item("a", "a", {"bits_per_byte": (float("nan"), 1.0)})]), "finite"),
        (Measurement([Item("a", "a", {"accuracy": (1.0, 1.0)})]), "'accuracy' that it does not describe"),
    ):
        with pytest.raises(DanteError, match=said):
            check_measurement(suite, wrong)


def test_code_of_an_extension_is_part_of_a_step_s_identity_and_the_lab_s_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    node = {"ce": {"_target_": "dante.losses.ce.CE"}, "own": [{"_target_": "dante_mine.focal.Focal"}]}
    assert extensions_in(node) == {"dante_mine.focal": sha256(folder / "dante_mine" / "focal.py")}
