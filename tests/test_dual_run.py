"""The dual penalty inside whole fits: phases, equality with plain CE, state, what is logged and written down."""

import pytest
import torch

from dante.fit.strategy import build_strategy
from dante.losses.ce import CE
from dante.losses.dual_penalty.penalty import DualPenalty
from dante.losses.entropy_penalty import EntropyPenalty
from dante.losses.multiplier import NuPI
from dante.losses.schedule import Constant, HoldThenRamp
from dante.system.files import read_json
from tests import sharded_worker
from tests.test_config import composed
from tests.test_module import module, student
from tests.test_run import metrics, run_here


def penalty(**changes):
    options = {
        "weight": Constant(1.0),
        "signal": "predictive",
        "guard": "none",
        "difficult": 0.5,
        "measure_from": 0.2,
        "measure_until": 0.4,
        "bound": HoldThenRamp(1.0, 0.2, 0.4),
        "augmentation": 1.0,
        "multiplier": NuPI(k_i=50.0, k_p=5.0, nu=0.9, maximum=20.0),
    }
    return DualPenalty(**{**options, **changes})


def trained(lr=3e-3, **losses):
    """Twenty steps of a tiny student: rows of metrics, weights, the module."""
    network = module(student(torch.float32), losses, steps=sharded_worker.STEPS, lr=lr, clip=1.0)
    rows, _ = sharded_worker.train(network, build_strategy({"strategy": "auto", "accelerator": "cpu"}), None)
    return rows, {name: p.detach() for name, p in network.student.named_parameters()}, network


@pytest.mark.parametrize("signal", ["predictive", "energy", "gram"])
def test_a_bound_that_holds_leaves_plain_training_alone_to_the_bit(signal):
    """ε fixed above g: λ stays 0, and nothing of the student differs."""
    plain_rows, plain, _ = trained(ce=CE(Constant(1.0)))
    loose = penalty(signal=signal, threshold=0.0, initial_bound=2.0, bound=Constant(1.0))
    rows, weights, _ = trained(ce=CE(Constant(1.0)), dual=loose)
    assert all(row["dual/excess"] > 0 for row in rows), "there has to be something to push down"
    assert all(row["dual/violation"] < 0 for row in rows)
    assert [row["dual/multiplier"] for row in rows] == [0.0] * len(rows)
    assert [row["dual/coefficient"] for row in rows] == [0.0] * len(rows)
    for name in plain:
        assert torch.equal(weights[name], plain[name]), name
    for row, true in zip(rows, plain_rows, strict=True):
        assert {key: row[key] for key in true} == true
    # ... and a bound that does not hold does move it.
    tight = penalty(signal=signal, threshold=0.0, initial_bound=1e-3, bound=Constant(1.0))
    pushed_rows, pushed, _ = trained(ce=CE(Constant(1.0)), dual=tight)
    assert pushed_rows[-1]["dual/multiplier"] > 1.0
    assert any(not torch.equal(pushed[name], plain[name]) for name in plain)


def test_the_constraint_pushes_the_signal_down():
    _, _, free = trained(lr=2e-2, ce=CE(Constant(1.0)), dual=penalty(weight=Constant(0.0), threshold=0.0))
    rows, _, held = trained(lr=2e-2, ce=CE(Constant(1.0)), dual=penalty(threshold=0.0))
    centre = (torch.arange(1024, dtype=torch.float64) + 0.5) / 1024

    def mean(network):
        counts = network.losses["dual"].after[:2].sum(0)
        return float((counts * centre).sum() / counts.sum())

    assert mean(held) < mean(free) - 2e-3
    assert rows[-1]["dual/multiplier"] > 0


def test_phases_measuring_then_frozen():
    rows, _, network = trained(ce=CE(Constant(1.0)), dual=penalty())
    known = [row["dual/threshold"] == row["dual/threshold"] for row in rows]
    assert known == [False] * 8 + [True] * 12  # 0.4 of twenty steps
    assert len({row["dual/threshold"] for row in rows[8:]}) == 1
    bounds = [row["dual/bound"] for row in rows[8:]]
    assert all(a > b for a, b in zip(bounds, bounds[1:], strict=False))
    assert all(row["dual/coefficient"] == 0 for row in rows[:9])
    said = network.loss_summaries()["dual"]
    tokens = sum(row["supervised_tokens"] for row in rows[4:8])
    before, after = (said["histograms"][when] for when in ("before", "after"))
    assert sum(before["right"]) + sum(before["wrong"]) == tokens
    assert sum(after["right"]) + sum(after["wrong"]) == sum(row["supervised_tokens"] for row in rows[-4:])
    assert len(said["histograms"]["edges"]) == len(before["right"]) + 1 == 129


def test_a_step_that_is_skipped_moves_nothing():
    loss = penalty(threshold=0.5, initial_bound=0.01)
    loss.begin(10)
    sums = {"excess": torch.tensor(0.3), "tally": torch.ones(3, 1024), "groups": torch.zeros(2, 3)}
    for applied in (False, True):
        before = {name: buffer.clone() for name, buffer in loss.state_dict().items()}
        loss.on_optimizer_step(0.2, sums, torch.tensor(applied))  # measured
        loss.on_optimizer_step(0.5, sums, torch.tensor(applied))  # constrained
        loss.on_optimizer_step(0.9, sums, torch.tensor(applied))  # one of the last
        changed = {name for name, buffer in loss.state_dict().items() if not torch.equal(buffer, before[name])}
        moving = {"coefficient", "multiplier.value", "multiplier.smoothed", "before", "after"}
        assert changed == (moving if applied else set())


def test_a_plain_entropy_penalty_makes_every_prediction_surer():
    plain, _, _ = trained(lr=2e-2, ce=CE(Constant(1.0)), h=EntropyPenalty(Constant(0.0)))
    pushed, _, _ = trained(lr=2e-2, ce=CE(Constant(1.0)), h=EntropyPenalty(Constant(5.0)))
    assert pushed[0]["loss/h"] == plain[0]["loss/h"]
    assert 0 < pushed[-1]["loss/h"] < plain[-1]["loss/h"] - 0.01


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_the_shortest_runs_are_measured_for_one_step(steps):
    """Whatever the window: one step is measured, and at least one is left."""
    loss = penalty(measure_from=0.4, measure_until=0.5)
    loss.begin(steps)
    first, end = loss._window()
    assert 0 <= first < end < steps
    penalty(measure_from=0.0, measure_until=0.0).begin(2)


def test_a_constraint_that_asks_for_nothing_says_so():
    """No difficult token passes the guard while it is measured: μ stays below its ceiling, and the user is told."""
    loss = penalty()
    loss.begin(10)
    wrong = torch.zeros(3, 1024)
    wrong[1] = 1.0
    groups = torch.zeros(2, 3)
    for step in range(2, 4):
        loss.on_optimizer_step(
            step / 10, {"excess": torch.tensor(0.0), "tally": wrong, "groups": groups}, torch.tensor(True)
        )
    assert loss.initial_bound == 0
    loss.on_optimizer_step(0.4, {"excess": torch.tensor(0.3), "tally": wrong, "groups": groups}, torch.tensor(True))
    assert loss.coefficient == loss.multiplier.maximum
    assert "asks for next to none" in loss.summary()["notes"][0]
    assert "every measured step was skipped" in penalty().summary()["notes"][0]


def test_kai_s_student_is_the_one_at_eight_gpus():
    """Kai-3B's shape, which is SmolLM3's; experiments compose at every scale in test_config."""
    config = composed("+experiment=ads_kai", "scale=a100x8")
    shape = config["student"]["architecture"]
    assert (shape["num_hidden_layers"], shape["hidden_size"], shape["intermediate_size"]) == (36, 2048, 11008)
    assert (shape["num_attention_heads"], shape["num_key_value_heads"]) == (16, 4)
    assert (shape["vocab_size"], shape["max_position_embeddings"]) == (128256, 65536)
    dual = config["losses"]["dual_penalty"]
    assert (dual["measure_from"], dual["measure_until"]) == (0.0, config["fit"]["warmup"])


def test_a_whole_run_writes_the_constraint_down(tmp_path):
    run_here(tmp_path / "run", "ads_kai", "only=[teacher,cache,init,fit]", "losses.dual_penalty.guard=none")
    rows = metrics(tmp_path / "run")
    first = rows[0]
    assert first["dual_penalty/threshold"] is None
    assert first["dual_penalty/difficult_entropy"] is None
    last = rows[-1]
    assert 0 <= last["dual_penalty/difficult_share"] < 1
    assert 0 < last["dual_penalty/threshold"] <= 1
    said = read_json(tmp_path / "run" / "fit" / "summary.json")["losses"]["dual_penalty"]
    assert said["threshold"] == pytest.approx(last["dual_penalty/threshold"])
    counted = sum(said["histograms"]["before"]["right"]) + sum(said["histograms"]["before"]["wrong"])
    assert counted == first["supervised_tokens"], "one of the eight steps is measured"
