"""Wrong command lines: each ends in one paragraph on standard error, a non-zero exit code, and no stack of frames."""

import subprocess
import sys
from pathlib import Path

import pytest

import train

ROOT = Path(__file__).resolve().parents[1]

WRONG = {
    "no experiment": ([], "+experiment=dante_mosaic"),
    "unknown experiment": (["+experiment=dante_mosiac"], "did you mean 'dante_mosaic'?"),
    "experiment without plus": (["experiment=sft"], "+experiment=NAME"),
    "unknown scale": (["+experiment=sft", "scale=pokcet"], "did you mean 'pocket'?"),
    "unknown loss": (["+experiment=sft", "loss=[cwcee]"], "did you mean 'cwce'?"),
    "unknown key": (["+experiment=sft", "fit.lrr=1"], "did you mean 'lr'?"),
    "added typo": (["+experiment=sft", "+fit.lrr=1"], "did you mean 'lr'?"),
    "added top-level typo": (["+experiment=sft", "+sed=1"], "did you mean 'seed'?"),
    "wrong type": (["+experiment=sft", "fit.lr=fast"], "fit.lr='fast'"),
    "out of range": (["+experiment=sft", "fit.steps=-3"], "greater than 0"),
    "not a choice": (["+experiment=sft", "on_existing=maybe"], "'resume', 'overwrite' or 'error'"),
    "unknown step": (["+experiment=sft", "only=evall"], "did you mean 'eval'?"),
    "argument of a target": (["+experiment=dante_mosaic", "+losses.cwce.slop=2"], "did you mean 'slope'?"),
    "value of a target": (
        ["+experiment=dante_mosaic", "losses.tea.reduction=sum"],
        "Where: losses.tea.reduction. Allowed: frobenius_sum",
    ),
    "foreign target": (["+experiment=sft", "losses.ce._target_=os.system"], "not a part of this lab"),
    "target of another name": (["+experiment=sft", "losses.ce._target_=dante.losses.ce.CEE"], "did you mean 'CE'?"),
    "node without a target": (["+experiment=sft", "+losses.kl.weight=1"], "`_target_` is needed"),
    "broken syntax": (["+experiment=sft", "fit.lr=["], "key=value"),
    "missing value": (["+experiment=sft", "cache=given"], "cache.source.path"),
    "layers out of order": (["+experiment=sft", "student.init.layers=[3,1]"], "student.init.layers=[1,3]"),
    "step smaller than a pack": (
        ["+experiment=sft", "fit.batch.unit=tokens", "fit.batch.size=10"],
        "fit.batch.size=1024",
    ),
    "engine of a cache that is there": (["+experiment=sft", "engine=transformers"], "add cache=generated"),
    "prompts of a cache that is there": (["+experiment=sft", "cache=given", "prompts=jsonl"], "add cache=generated"),
    "unknown engine": (["+experiment=sft", "cache=generated", "engine=vlm"], "did you mean 'vllm'?"),
    "unknown prompts": (["+experiment=sft", "cache=generated", "prompts=parket"], "did you mean 'parquet'?"),
    "unknown key of an engine": (["+experiment=sft", "cache=generated", "engine.dtyp=x"], "did you mean 'dtype'?"),
    "prompts without a path": (["+experiment=sft", "cache=generated", "prompts=jsonl"], "prompts.path=VALUE"),
    "the long name of prompts": (
        ["+experiment=sft", "cache=generated", "cache.source.prompts.path=x"],
        "Fix: prompts.path=VALUE",
    ),
    "template variable without a plus": (
        ["+experiment=sft", "chat.enable_thinking=false"],
        "Fix: +chat.enable_thinking=VALUE",
    ),
    "template variables in two homes": (["+experiment=sft", "student.chat={enable_thinking:false}"], "+chat."),
    "share that leaves nothing": (
        ["+experiment=sft", "cache=given", "cache.source.path=x", "cache.source.heldout.share=0.9"],
        "at most 0.5",
    ),
    "several devices, no strategy": (["+experiment=sft", "trainer.devices=2"], "trainer.strategy=ddp"),
    "card in fp32": (["+experiment=sft", "fidelity=card", "fit.precision=fp32"], "fit.precision=bf16"),
    "run name with a slash": (["+experiment=sft", "run.name=a/b"], "run.name='a/b'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_command_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments, expected = WRONG[name]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, f"run.dir={tmp_path}/run"])
    monkeypatch.setattr(train, "failures", [])
    code = train.main()
    message = capsys.readouterr().err
    assert code != 0
    assert expected in message
    assert len(message.strip().splitlines()) == 1
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()


def test_a_process_ends_with_the_same_paragraph_and_a_code(tmp_path: Path) -> None:
    command = [sys.executable, "train.py", "+experiment=sft", "+fit.lrr=1", f"run.dir={tmp_path}/run"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error unknown key 'fit.lrr'")
    assert "Traceback" not in result.stderr
