"""`auto`: every branch of the choice, and that plan, fit, evaluation and engine agree on what was chosen."""

import json
import platform
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from dante.cost import shown
from dante.cost.estimate import estimate
from dante.cost.expected_rate import expected_rate
from dante.cost.peak import Peak
from dante.errors import DanteError
from dante.run import pipeline, precision
from dante.system import rank
from tests.test_config import composed

SMOKE = ("+experiment=sft", "scale=smoke", "logger=none", "trainer.precision=auto")
GENERATED = (*SMOKE, "cache=generated")


@pytest.fixture(autouse=True)
def fresh_measurement() -> None:
    precision._measured.cache_clear()


def supports(monkeypatch: pytest.MonkeyPatch, support: str) -> None:
    monkeypatch.setattr(precision, "bf16_support", lambda device: support)


def said(cfg: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    steps = pipeline.plan_steps(cfg)
    shown.plan(cfg, steps, estimate(cfg, steps))
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("support", "short", "long", "because"),
    [
        ("native", "bf16", "bfloat16", "multiplies bf16"),
        ("emulated", "fp32", "float32", "has no bf16 instructions"),
    ],
)
def test_plan_fit_evaluation_and_engine_agree(
    support: str, short: str, long: str, because: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    supports(monkeypatch, support)
    cfg = composed(*GENERATED, f"run.dir={tmp_path}/run")
    settings = {label: step["settings"] for label, step in cfg["steps"].items()}
    assert settings["fit"]["fit"]["precision"] == short
    assert {settings[label]["precision"] for label in ("eval-teacher", "eval-init", "eval")} == {short}
    assert settings["cache"]["source"]["engine"]["dtype"] == long
    assert cfg["trainer"]["precision"] == short
    plan = said(cfg, capsys)
    assert f"CPU, auto, {short} " in plan
    assert f"precision {short}: this CPU" in plan
    assert because in plan
    assert "in bf16," not in plan


def test_engine_and_evaluation_compute_in_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their weights and activations, not their settings alone (torch emulates bf16, for a tiny model fast enough)."""
    supports(monkeypatch, "native")
    short = ("engine=transformers", "only=[teacher,cache,eval-teacher]", "eval.choices=0", "eval.retention=false")
    pipeline.run(composed(*SMOKE, *short, f"run.dir={tmp_path}/run"))
    manifest = json.loads((tmp_path / "run" / "cache" / "manifest.json").read_text())
    assert manifest["engine"]["dtype"] == "bfloat16"
    assert (
        load_file(tmp_path / "run" / "eval-teacher" / "heldout" / "reference.safetensors")["hidden"].dtype
        == torch.bfloat16
    )


def test_a_product_decides_where_the_flags_do_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    supports(monkeypatch, "unknown")
    for seconds, expected in (({"bf16": 0.5, "fp32": 1.0}, "bf16"), ({"bf16": 1.0, "fp32": 0.25}, "fp32")):
        precision._measured.cache_clear()
        monkeypatch.setattr(precision, "_product_s", seconds.__getitem__)
        decision = precision.decide("cpu")
        assert decision.value == expected
        assert "(measured)" in decision.reason


def test_the_trial_is_short_and_real() -> None:
    assert 0 < precision._product_s("fp32") < 0.3
    assert precision._measured("this CPU").value in ("bf16", "fp32")


def test_several_processes_do_not_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    supports(monkeypatch, "unknown")
    monkeypatch.setattr(precision, "_product_s", lambda name: pytest.fail("measured"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert rank.processes() == 2
    assert precision.decide("cpu").value == "fp32"


def test_x86_is_asked_for_its_instructions_and_not_whether_bf16_can_be_emulated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for avx512, amx, expected in ((False, False, "emulated"), (True, False, "native"), (False, True, "native")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda found=avx512: found)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda found=amx: found)
        assert precision.bf16_support("cpu") == expected
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert precision.bf16_support("cpu") == "unknown"


def test_a_gpu_without_bf16_gets_fp32_and_the_planned_one_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert precision.bf16_support("cuda") == "native"  # none here: the plan's
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert precision.bf16_support("cuda") == "emulated"


def test_the_card_s_bf16_weights_are_fitted_in_bf16_and_measured_like_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    supports(monkeypatch, "emulated")
    cfg = composed(*SMOKE, "fidelity=card", f"run.dir={tmp_path}/run")
    assert (cfg["fit"]["precision"], cfg["eval"]["precision"], cfg["trainer"]["precision"]) == ("bf16", "fp32", "fp32")
    plan = said(cfg, capsys)
    assert "bf16: fidelity=card keeps its weights in bf16 (fit)" in plan
    assert "has no bf16 instructions: about" in plan
    assert "fidelity=sound keeps fp32 weights" in plan


def test_a_typed_bf16_is_honoured_with_the_hours_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    supports(monkeypatch, "emulated")
    cfg = composed("+experiment=sft", "trainer.precision=bf16", f"run.dir={tmp_path}/run")
    assert cfg["fit"]["precision"] == "bf16"
    assert cfg["decided"] == {}
    cost = estimate(cfg, pipeline.plan_steps(cfg))
    assert cost.fp32_hours is not None
    assert "has no bf16 instructions: about" in said(cfg, capsys)
    supports(monkeypatch, "native")
    assert "in bf16," not in said(cfg, capsys)


def test_each_key_may_be_typed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supports(monkeypatch, "emulated")
    cfg = composed(*GENERATED, "eval.precision=bf16", "engine.dtype=float16", f"run.dir={tmp_path}/run")
    assert (cfg["fit"]["precision"], cfg["eval"]["precision"]) == ("fp32", "bf16")
    assert cfg["cache"]["source"]["engine"]["dtype"] == "float16"
    cfg = composed(*GENERATED, "trainer.precision=bf16", f"run.dir={tmp_path}/run")
    assert cfg["cache"]["source"]["engine"]["dtype"] == "bfloat16"


def test_auto_never_means_a_device_that_nobody_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    cfg = composed(*SMOKE, "trainer.accelerator=auto", f"run.dir={tmp_path}/run")
    assert cfg["trainer"]["accelerator"] == "cpu"
    assert "MPS) is not used" in cfg["decided"]["trainer.accelerator"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert precision._accelerator().value == "gpu"


def test_a_gpu_that_is_not_here_is_refused_with_what_to_type() -> None:
    with pytest.raises(DanteError, match="no CUDA device") as caught:
        precision.require_device("gpu")
    assert "trainer.accelerator=cpu" in str(caught.value.fix)
    precision.require_device("cpu")


def test_a_rate_that_nobody_knows_is_asked_for() -> None:
    trainer = {"accelerator": "gpu", "peak_tflops": None, "device_name": "Abacus", "expected_mfu": 0.4, "threads": None}
    with pytest.raises(DanteError, match="Abacus"):
        expected_rate(trainer, "bf16")
    assert expected_rate(trainer | {"device_name": "A100-80GB"}, "bf16").tflops == pytest.approx(0.4 * 312)
    assert expected_rate(trainer | {"peak_tflops": 10}, "bf16").tflops == pytest.approx(4)


@pytest.mark.parametrize(
    ("bf16_tflops", "share", "tflops"),
    [
        (2.5, 0.148, 0.37),  # AMX: measured 14 % of its products, 0.35 TFLOP/s
        (0.162, 0.728, 0.118),  # MKL on AVX2, where fp32 products make 0.434 here: most of the time is theirs
        (0.001, 0.998, 0.001),  # emulated: nothing else counts
    ],
)
def test_faster_products_of_a_cpu_make_the_products_faster_and_nothing_else(
    bf16_tflops: float, share: float, tflops: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {"bf16": bf16_tflops, "fp32": 0.434}
    monkeypatch.setattr("dante.cost.expected_rate.peak_of", lambda device, name, *_: Peak(rates[name], "measured", {}))
    trainer = {"accelerator": "cpu", "peak_tflops": None, "expected_mfu": 0.5, "threads": None}
    rate = expected_rate(trainer, "bf16")
    assert rate.mfu == pytest.approx(share, abs=1e-3)
    assert rate.tflops == pytest.approx(tflops, rel=0.01)
    assert expected_rate(trainer, "fp32").tflops == pytest.approx(0.217)


def test_a_run_goes_on_in_the_precision_it_was_begun_in_and_auto_is_a_typed_fp32_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rows(name: str) -> list[float]:
        lines = (tmp_path / name / "fit" / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    def start(name: str, *more: str) -> dict[str, Any]:
        short = ("fit.steps=2", "only=[teacher,cache,init,fit]", f"run.dir={tmp_path}/{name}", *more)
        cfg = composed(*SMOKE, *short)
        pipeline.run(cfg)
        return cfg

    supports(monkeypatch, "emulated")
    start("auto")
    start("typed", "trainer.precision=fp32")
    assert rows("auto") == rows("typed")
    supports(monkeypatch, "native")
    start("bf16")
    assert rows("bf16") != rows("auto")
    stored = yaml.safe_load((tmp_path / "bf16" / "config.yaml").read_text())
    assert (stored["trainer"]["precision"], stored["fit"]["precision"]) == ("bf16", "bf16")
    # The same command elsewhere: the same step, and the plan says why, and what it would cost.
    supports(monkeypatch, "emulated")
    cfg = start("bf16")
    assert cfg["fit"]["precision"] == "bf16"
    plan = said(cfg, capsys)
    assert "bf16: the run was begun in it; a new one would take fp32" in plan
    assert "has no bf16 instructions: about" in plan
    assert composed(*SMOKE, f"run.dir={tmp_path}/bf16", "on_existing=overwrite")["fit"]["precision"] == "fp32"
