"""Two processes: FSDP2 equals DDP equals one process; what is resumed and what is released are the same to the bit."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dante.fit.keep.weights import gather
from dante.fit.strategy import build_strategy
from dante.system.files import sha256
from tests import sharded_worker

FSDP = {"trainer": {"strategy": "fsdp2"}}
SCENARIOS = {
    "ddp": {"trainer": {"strategy": "ddp"}, "resume": 7},
    "fsdp": {**FSDP, "resume": 7},
    "fsdp-joined": {**FSDP, "joined": True},
    "fsdp-full": {"trainer": {"strategy": "fsdp2", "checkpoints": "full"}, "background": True, "resume": 7},
    "fsdp-every": {**FSDP, "gradient_sync": "every"},
    "fsdp-recompute": {**FSDP, "gradient_checkpointing": "full"},
    "fsdp-untied": {**FSDP, "tied": False},
    "fsdp-dropout": {**FSDP, "dropout": 0.2, "resume": 7},
    "ddp-dropout": {"trainer": {"strategy": "ddp"}, "dropout": 0.2, "resume": 7},
    "fsdp-dual": {**FSDP, "signal": "predictive", "resume": 7},
    "ddp-dual": {"trainer": {"strategy": "ddp"}, "signal": "predictive", "resume": 13},
    "fsdp-live": {**FSDP, "live": "sharded", "resume": 7},
    "fsdp-live-whole": {**FSDP, "live": "whole"},
    "ddp-live": {"trainer": {"strategy": "ddp"}, "live": "whole", "resume": 7},
    "fsdp-blocks": {**FSDP, "blocks": "sharded", "resume": 7},
    "fsdp-blocks-whole": {**FSDP, "blocks": "whole"},
    "ddp-blocks": {"trainer": {"strategy": "ddp"}, "blocks": "whole", "resume": 7},
    "fsdp-gram": {**FSDP, "signal": "gram"},
    "fsdp-bf16": {**FSDP, "precision": "bf16"},
    "ddp-bf16": {"trainer": {"strategy": "ddp"}, "precision": "bf16"},
}


def launch(out: Path, scenarios: dict, processes: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [sharded_worker.__file__, str(out), json.dumps(scenarios)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-12000:]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    launch(folder, SCENARIOS, 2)
    return folder


@functools.cache
def alone(joined=False, **options):
    """The same on one process."""
    network = sharded_worker.trained(**options)
    strategy = build_strategy({"strategy": "auto", "accelerator": "cpu"})
    rows, _ = sharded_worker.train(network, strategy, None, joined=joined)
    return rows, gather(network.student, keep=True)


def numbers(rows):
    """What one process logged, as the workers write it."""
    return json.loads(sharded_worker.written(rows))


def rows_of(out, name):
    return json.loads((out / f"{name}.json").read_text())


def compare(rows, weights, true_rows, true_weights, tolerance):
    assert len(rows) == len(true_rows) == sharded_worker.STEPS
    for mine, true in zip(rows, true_rows, strict=True):
        assert mine.keys() == true.keys()
        for name, value in true.items():
            wanted = value if value is None else pytest.approx(value, rel=tolerance, abs=tolerance)
            assert mine[name] == wanted, (true["step"], name)
    assert weights.keys() == true_weights.keys()
    for name, weight in true_weights.items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["ddp", "fsdp", "fsdp-joined", "fsdp-full", "fsdp-every", "fsdp-recompute"])
def test_two_processes_equal_one(out, name):
    rows, weights = alone()
    assert all(row["grad_norm"] > 0.5 for row in rows[:10])  # the clip is active
    compare(rows_of(out, name), load_file(out / f"{name}.safetensors"), rows, weights, 1e-5)


def test_one_micro_batch_equals_seven(out):
    compare(*alone(joined=True), *alone(), 1e-5)


def test_an_untied_head_is_sharded_as_well(out):
    compare(rows_of(out, "fsdp-untied"), load_file(out / "fsdp-untied.safetensors"), *alone(tied=False), 1e-5)


def test_bf16_compute_gives_the_same_curve(out):
    true, _ = alone(precision="bf16")
    for name in ("ddp-bf16", "fsdp-bf16"):
        for mine, row in zip(rows_of(out, name), true, strict=True):
            assert mine["ce_nats"] == pytest.approx(row["ce_nats"], abs=2e-3)
    weights = load_file(out / "fsdp-bf16.safetensors")
    # fp32 masters: what bf16 could not hold
    assert any(not torch.equal(w, w.bfloat16().float()) for w in weights.values())


@pytest.mark.parametrize("name", ["fsdp-dual", "ddp-dual", "fsdp-gram"])
def test_two_processes_have_one_multiplier(out, name):
    """λ is a function of the step, not of the rank: to the bit between ranks, within rounding of one process."""
    rows, weights = alone(signal=SCENARIOS[name]["signal"])
    assert [row["dual/multiplier"] for row in rows[:10]] == [0.0] * 10  # measured, not yet constrained
    assert any(row["dual/coefficient"] > 0.1 for row in rows[10:]), "a constraint that holds would say nothing"
    compare(rows_of(out, name), load_file(out / f"{name}.safetensors"), numbers(rows), weights, 1e-5)
    ranks = [json.loads((out / f"{name}-rank{rank}.json").read_text()) for rank in (0, 1)]
    for mine, other in zip(*ranks, strict=True):
        for key in mine:
            if key.startswith(("dual/", "loss/dual")):
                assert mine[key] == other[key], (mine["step"], key)
    states = [torch.load(out / f"{name}-losses-rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert {"dual.multiplier.value", "dual.multiplier.smoothed", "dual.threshold"} <= states[0].keys()
    for key, buffer in states[0].items():
        assert torch.equal(buffer, states[1][key]), key


@pytest.mark.parametrize("name", ["fsdp-live", "fsdp-live-whole", "ddp-live"])
def test_a_live_teacher_says_the_same_wherever_its_weights_lie(out, name):
    """Spread over both processes like the student, or whole on each: twenty steps as on one process."""
    rows, weights = alone(live="whole")
    assert all(row["grad_norm"] > 0.5 for row in rows[:10])  # the clip is active
    assert rows[16]["loss/kl"] < rows[0]["loss/kl"]  # the same batch
    compare(rows_of(out, name), load_file(out / f"{name}.safetensors"), rows, weights, 1e-5)


@pytest.mark.parametrize(("name", "after"), [("fsdp-dual", 7), ("ddp-dual", 13)])
def test_a_resumed_constraint_is_the_same_to_the_bit(out, name, after):
    """Stopped while the threshold is being measured, and while the multiplier moves."""
    assert rows_of(out, f"{name}-resumed") == rows_of(out, name)[after:]
    assert sha256(out / f"{name}-resumed.safetensors") == sha256(out / f"{name}.safetensors")


@pytest.mark.parametrize("name", ["fsdp-blocks", "fsdp-blocks-whole", "ddp-blocks"])
def test_units_match_a_mixture_alike_wherever_its_weights_lie(out, name):
    """One row of every step has nothing on one rank."""
    rows, weights = alone(blocks="whole")
    assert rows[-1]["match/nmse"] < 0.9 * rows[0]["match/nmse"]
    assert len(weights) == 3 * 2  # three matrices of two layers: no backbone
    compare(rows_of(out, name), load_file(out / f"{name}.safetensors"), rows, weights, 1e-5)


@pytest.mark.parametrize(
    "name",
    ["ddp", "fsdp", "fsdp-full", "fsdp-dropout", "ddp-dropout", "fsdp-live", "ddp-live", "fsdp-blocks", "ddp-blocks"],
)
def test_a_resumed_fit_is_the_same_to_the_bit(out, name):
    assert rows_of(out, f"{name}-resumed") == rows_of(out, name)[7:]
    assert sha256(out / f"{name}-resumed.safetensors") == sha256(out / f"{name}.safetensors")


def test_dropout_depends_on_the_records_and_not_on_the_number_of_processes(out):
    with_dropout, weights = alone(dropout=0.2)
    assert [row["loss"] for row in with_dropout] != [row["loss"] for row in alone()[0]]
    for name in ("fsdp-dropout", "ddp-dropout"):
        compare(rows_of(out, name), load_file(out / f"{name}.safetensors"), with_dropout, weights, 1e-5)


CONTINUED = [("fsdp2", "fsdp-dropout"), ("fsdp2", "fsdp-full"), ("auto", "fsdp-full"), ("auto", "ddp")]


@pytest.fixture(scope="module")
def continued(out):
    """Two processes made seven steps; one makes the rest, from each of their checkpoints."""
    scenarios, aside = {}, []
    for strategy, begun in CONTINUED:
        folder = f"{begun}-resumed"
        options = {"trainer": {"strategy": strategy}, "continue": folder, "dropout": SCENARIOS[begun].get("dropout")}
        scenarios[f"{begun}-then-{strategy}"] = options
        last = out / folder / f"step-{sharded_worker.STEPS:06d}.ckpt"  # what they made after that
        if last.exists():
            aside.append((last.rename(out / f"{begun}-aside"), last))
    launch(out, scenarios, 1)
    for kept, last in aside:
        kept.rename(last)
    return out


@pytest.mark.parametrize(("strategy", "begun"), CONTINUED)
def test_a_fit_goes_on_with_another_number_of_processes(continued, strategy, begun):
    name = f"{begun}-then-{strategy}"
    rows = rows_of(continued, name)
    assert [row["step"] for row in rows] == list(range(8, sharded_worker.STEPS + 1))
    for mine, true in zip(rows, rows_of(continued, begun)[7:], strict=True):
        for key, value in true.items():
            assert mine[key] == pytest.approx(value, rel=1e-5, abs=1e-5), (true["step"], key)
    weights = load_file(continued / f"{name}.safetensors")
    for key, weight in load_file(continued / f"{begun}.safetensors").items():
        torch.testing.assert_close(weights[key], weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["fsdp", "fsdp-untied", "fsdp-dropout"])
def test_gathering_and_consolidating_give_the_same_file(out, name):
    assert sha256(out / f"{name}-consolidated.safetensors") == sha256(out / f"{name}.safetensors")


def test_a_tied_head_is_written_once(out):
    assert "lm_head.weight" not in load_file(out / "fsdp.safetensors")
    assert "lm_head.weight" in load_file(out / "fsdp-untied.safetensors")


@pytest.mark.slow
def test_hybrid_sharding_on_four_processes_equals_one(tmp_path):
    hybrid = {"trainer": {"strategy": "fsdp2", "shard_size": 2}, "resume": 7}
    launch(tmp_path, {"hybrid": hybrid}, 4)
    compare(rows_of(tmp_path, "hybrid"), load_file(tmp_path / "hybrid.safetensors"), *alone(), 1e-5)
    assert rows_of(tmp_path, "hybrid-resumed") == rows_of(tmp_path, "hybrid")[7:]
