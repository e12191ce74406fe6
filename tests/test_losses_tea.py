"""The embedding anchor: reductions, calibration, what is and is not in a checkpoint."""

import math

import pytest
import torch
from torch import nn

from dante.errors import DanteError
from dante.losses.schedule import Constant, Linear
from dante.losses.tea import TEA
from tests import reference

REDUCTIONS = ["frobenius_sum", "row_mean", "relative"]


class Student(nn.Module):
    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.embedding = nn.Embedding(7, 5, dtype=dtype)
        self.embedding.weight.grad = torch.ones(7, 5, dtype=dtype)

    def get_input_embeddings(self):
        return self.embedding


def anchored(reduction="relative", calibrate=False, weight=None, drift=0.3, dtype=torch.float64):
    """A TEA attached to a student whose embedding has moved by a random matrix of rms `drift`."""
    torch.manual_seed(0)
    student = Student(dtype)
    initial = student.embedding.weight.detach().clone()
    loss = TEA(weight or Constant(1.0), reduction, calibrate, gradient_ratio=0.1, drift_rms=1e-4, calibration=0.1)
    loss.attach(student, initial)
    step = torch.randn(7, 5, dtype=dtype)
    with torch.no_grad():
        student.embedding.weight += drift * step / step.square().mean().sqrt()
    return loss, student, initial


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_value_and_gradient_equal_the_reference_and_finite_differences(reduction):
    loss, student, initial = anchored(reduction, weight=Linear(1.0, 0.1))
    term = loss.term(progress=0.5)
    moved = student.embedding.weight.detach().clone().requires_grad_()
    expected = reference.tea(moved, initial, reduction)
    (gradient,) = torch.autograd.grad(0.55 * expected, moved)
    numeric = reference.finite_difference(lambda e: 0.55 * reference.tea(e, initial, reduction), moved.detach())
    # λ and the scale are fp32 scalars.
    assert term.value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert term.weight.item() == pytest.approx(0.55)
    (parameter, ours) = term.gradients[0]
    assert parameter is student.embedding.weight
    torch.testing.assert_close(ours, gradient, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours, numeric, rtol=1e-5, atol=1e-8)
    assert term.gradient_norm.item() == pytest.approx(gradient.norm().item(), rel=1e-6)


def test_no_drift_no_loss_no_gradient():
    loss, _, _ = anchored(drift=0.0)
    term = loss.term(0.0)
    assert term.value.item() == 0.0
    assert float(term.gradients[0][1].abs().max()) == 0.0


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_calibrated_gradient_is_a_tenth_of_the_token_gradient_at_the_named_drift(reduction):
    loss, student, _ = anchored(reduction, calibrate=True, drift=1e-4)
    student.embedding.weight.grad = torch.full((7, 5), 2.0, dtype=torch.float64)
    loss.observe(0.0, torch.ones(()))
    term = loss.term(progress=0.0)
    token_norm = 2.0 * math.sqrt(35)
    assert term.gradient_norm.item() == pytest.approx(0.1 * token_norm, rel=1e-5)
    assert term.metrics["gradient_ratio"].item() == pytest.approx(0.1, rel=1e-5)
    assert term.metrics["drift_rms"].item() == pytest.approx(1e-4, rel=1e-5)
    assert term.metrics["drift_frobenius"].item() == pytest.approx(1e-4 * math.sqrt(35), rel=1e-5)


def test_calibration_averages_over_warmup_and_then_freezes():
    loss, student, _ = anchored(calibrate=True)
    weights = []
    for step, size in enumerate([1.0, 3.0, 100.0, 100.0]):
        student.embedding.weight.grad = torch.full((7, 5), size, dtype=torch.float64)
        loss.observe(step / 20, torch.ones(()))  # calibration = 0.1: steps 0 and 1
        weights.append(loss.term(step / 20).weight.item())
    assert weights[1] == pytest.approx(2 * weights[0], rel=1e-6)
    assert weights[1] == weights[2] == weights[3]


def test_the_token_gradient_is_measured_as_it_enters_the_optimizer():
    """Clipped to a quarter, it is a quarter for the calibration and for the reported ratio, too."""
    whole, clipped = (anchored(calibrate=True, drift=1e-4)[0] for _ in range(2))
    whole.observe(0.0, torch.ones(()))
    clipped.observe(0.0, torch.tensor(4.0))
    assert clipped.term(0.0).weight.item() == pytest.approx(whole.term(0.0).weight.item() / 4, rel=1e-6)
    for loss in (whole, clipped):
        assert loss.term(0.0).metrics["gradient_ratio"].item() == pytest.approx(0.1, rel=1e-5)


def test_a_run_without_warmup_calibrates_on_its_first_step():
    loss, student, _ = anchored(calibrate=True)
    loss.calibration = 0.0
    loss.observe(0.0, torch.ones(()))
    assert loss.term(0.0).weight.item() > 0


def test_the_schedule_multiplies_the_calibrated_weight():
    loss, _, _ = anchored(calibrate=True, weight=Linear(1.0, 0.1))
    loss.observe(0.0, torch.ones(()))
    assert loss.term(1.0).weight.item() == pytest.approx(0.1 * loss.term(0.0).weight.item(), rel=1e-6)


def test_checkpoint_holds_the_calibration_in_fp32_and_not_the_reference():
    loss, _, _ = anchored(calibrate=True)
    loss.observe(0.0, torch.ones(()))
    state = loss.state_dict()
    assert set(state) == {"gradient_norm_mean", "observations"}
    assert all(value.dtype == torch.float32 for value in state.values())
    assert list(loss.parameters()) == []
    resumed, _, _ = anchored(calibrate=True)
    resumed.load_state_dict(state)
    assert resumed.term(0.05).weight.item() == loss.term(0.05).weight.item()


def test_bf16_weights_drift_is_measured_in_fp32():
    loss, student, initial = anchored("frobenius_sum", drift=0.05, dtype=torch.bfloat16)
    exact = (student.embedding.weight.detach().double() - initial.double()).square().sum()
    assert loss.term(0.0).value.item() == pytest.approx(exact.item(), rel=1e-5)


def test_mistakes_are_named():
    with pytest.raises(DanteError, match="frobenius_sum, row_mean, relative"):
        anchored("mean")
    loss, _, _ = anchored()
    with pytest.raises(DanteError, match="shape"):
        loss.attach(Student(), torch.zeros(6, 5))
    unattached = TEA(Constant(1.0), "relative", False, gradient_ratio=0.1, drift_rms=1e-4, calibration=0.1)
    with pytest.raises(DanteError, match="reference"):
        unattached.term(0.0)
