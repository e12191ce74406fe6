"""The dual variable: cooper-optim's νPI, plain dual ascent, the gate, the ceiling, problems with a known solution."""

import io

import cooper
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dante.errors import DanteError
from dante.losses.multiplier import Fixed, NuPI
from tests.reference_dual import Controller, trace

APPLIED, SKIPPED = torch.tensor(True), torch.tensor(False)
#: (ν, K_P, K_I)
GAINS = [(0.0, 1.0, 0.3), (0.9, 5.0, 0.2), (0.5, 0.3, 1.0), (0.99, 50.0, 0.01), (0.0, 0.5, 0.0), (0.9, 0.0, 0.5)]
errors_of_a_run = st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=40)


def violations(seed, count=200):
    """Noise on a slow wave, so that the sign changes both rarely and often."""
    noise = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    return (0.4 * noise + torch.sin(torch.arange(count) / 15.0)).tolist()


def nupi(nu, k_p, k_i, maximum=1e9, value=0.0):
    multiplier = NuPI(k_i=k_i, k_p=k_p, nu=nu, maximum=maximum)
    multiplier.value.fill_(value)
    return multiplier


def follow(multiplier, errors, share=1.0, applied=APPLIED):
    """λ after each error."""
    values = []
    for error in errors:
        multiplier.update(torch.tensor(error), share, applied)
        values.append(multiplier.value.item())
    return values


class Cooper:
    """Cooper's own multiplier and optimizer: gradient ascent on λ·g, then its projection to λ ≥ 0; fp32."""

    def __init__(self, nu, k_p, k_i, value=0.0):
        self.multiplier = cooper.multipliers.DenseMultiplier(init=torch.tensor([value]))
        self.multiplier.set_constraint_type(cooper.ConstraintType.INEQUALITY)
        self.optimizer = cooper.optim.nuPI(
            self.multiplier.parameters(),
            lr=1.0,
            Kp=torch.tensor(k_p),
            Ki=torch.tensor(k_i),
            ema_nu=nu,
            init_type=cooper.optim.nuPIInitType.ZEROS,
            maximize=True,
        )

    @property
    def smoothed(self):
        state = self.optimizer.state[self.multiplier.weight]
        return state["xi"].item() if "xi" in state else 0.0

    def step(self, error):
        self.multiplier.weight.grad = torch.tensor([error])
        self.optimizer.step()
        self.multiplier.post_step_()
        return self.multiplier.weight.item()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("nu", "k_p", "k_i"), GAINS)
def test_the_trace_is_coopers(nu, k_p, k_i, seed):
    """Far from λ = 0, where the gate (cooper has none) has nothing to do; 200 steps without a look at each other."""
    errors = violations(seed)
    theirs = Cooper(nu, k_p, k_i, value=300.0)
    expected = [theirs.step(error) for error in errors]
    assert min(expected) > 0.0
    assert follow(nupi(nu, k_p, k_i, value=300.0), errors) == pytest.approx(expected, rel=3e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("nu", "k_p", "k_i"), GAINS)
def test_each_step_with_its_projection_is_coopers_but_for_the_gate(nu, k_p, k_i, seed):
    """λ comes to 0 and leaves it again. Before each step ours gets cooper's state."""
    ours, theirs = nupi(nu, k_p, k_i), Cooper(nu, k_p, k_i)
    projected = gated = 0
    for error in violations(seed):
        ours.value.fill_(before := theirs.multiplier.weight.item())
        ours.smoothed.fill_(theirs.smoothed)
        ours.update(torch.tensor(error), 1.0, APPLIED)
        expected = theirs.step(error)
        projected += expected == 0.0
        if before == 0.0 and error < 0.0:
            gated += 1
            expected = 0.0
        assert ours.value.item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
        if k_p != 0.0:  # else cooper keeps none
            assert ours.smoothed.item() == pytest.approx(theirs.smoothed, rel=1e-6, abs=1e-6)
    assert projected
    assert gated or k_i == 0.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [1.0, 0.01])
@pytest.mark.parametrize(("nu", "k_p", "k_i"), GAINS)
def test_the_trace_is_the_references_gate_and_ceiling_included(nu, k_p, k_i, share, seed):
    errors, maximum = violations(seed), 1.5
    expected = trace(Controller(k_i, k_p, nu, maximum), errors, share)
    multiplier = nupi(nu, k_p, k_i, maximum)
    ours = follow(multiplier, errors, share)
    assert ours == pytest.approx([value for value, _, _ in expected], rel=2e-5, abs=2e-5)
    assert multiplier.smoothed.item() == pytest.approx(expected[-1][1], rel=2e-5, abs=2e-5)


def test_without_a_proportional_gain_it_is_projected_dual_ascent():
    expected, value = [], 0.0
    for error in violations(5):
        value = max(value + 0.25 * 0.1 * error, 0.0)
        expected.append(value)
    assert follow(nupi(0.9, 0.0, 0.25), violations(5), share=0.1) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_first_step_counts_the_smoothed_error_from_zero():
    multiplier = nupi(0.75, 2.0, 1.0)
    assert follow(multiplier, [0.5]) == [0.5 + 2.0 * 0.25 * 0.5]
    assert multiplier.smoothed.item() == 0.125


@settings(deadline=None, max_examples=40)
@given(
    errors=st.lists(st.floats(-2, -(2.0**-10), width=32), min_size=1, max_size=30),
    k_p=st.floats(0, 100),
    nu=st.floats(0, 0.99),
    smoothed=st.floats(-5, 5, width=32),
)
def test_a_multiplier_at_rest_stays_at_rest_while_the_constraint_holds(errors, k_p, nu, smoothed):
    """Whatever the proportional term says: from errors that rise toward 0 it would lift λ."""
    multiplier = nupi(nu, k_p, 0.1)
    multiplier.smoothed.fill_(smoothed)
    assert follow(multiplier, errors) == [0.0] * len(errors)


def test_the_gate_is_needed():
    """Without it, an error that rises from −1 to −0.1 lifts λ although the constraint holds: cooper's does."""
    theirs = Cooper(0.0, 1.0, 0.1)
    assert [theirs.step(error) for error in (-1.0, -0.1)][1] > 0.5
    assert follow(nupi(0.0, 1.0, 0.1), [-1.0, -0.1]) == [0.0, 0.0]


def test_the_smoothed_error_moves_while_the_multiplier_rests():
    multiplier = nupi(0.5, 1.0, 0.1)
    follow(multiplier, [-1.0, -1.0])
    assert multiplier.smoothed.item() == -0.75


@settings(deadline=None, max_examples=40)
@given(errors=errors_of_a_run, k_p=st.floats(0, 10), k_i=st.floats(0, 10), nu=st.floats(0, 0.99))
def test_the_multiplier_stays_between_zero_and_its_maximum(errors, k_p, k_i, nu):
    values = follow(nupi(nu, k_p, k_i, maximum=0.5), errors)
    assert all(0.0 <= value <= 0.5 for value in values)


@settings(deadline=None, max_examples=40)
@given(steps=st.integers(1, 200), k_p=st.floats(0, 10), nu=st.floats(0, 0.9), error=st.floats(-2, -(2.0**-7), width=32))
def test_it_leaves_its_maximum_in_the_first_step_that_satisfies_the_constraint(steps, k_p, nu, error):
    multiplier = nupi(nu, k_p, 0.5, maximum=1.0, value=1.0)
    assert follow(multiplier, [1.0] * steps) == [1.0] * steps
    assert follow(multiplier, [error])[0] < 1.0


@settings(deadline=None, max_examples=40)
@given(errors=errors_of_a_run)
def test_a_skipped_update_changes_no_bit(errors):
    multiplier = nupi(0.9, 2.0, 0.3)
    follow(multiplier, [0.7, -0.2])
    before = {name: tensor.clone() for name, tensor in multiplier.state_dict().items()}
    follow(multiplier, [*errors, float("nan"), float("inf")], applied=SKIPPED)
    assert all(torch.equal(before[name], tensor) for name, tensor in multiplier.state_dict().items())


def test_all_its_state_is_in_fp32_buffers_and_survives_a_checkpoint():
    errors = violations(7)
    whole = follow(nupi(0.9, 2.0, 0.3), errors)
    first, second = nupi(0.9, 2.0, 0.3), nupi(0.9, 2.0, 0.3)
    follow(first, errors[:100])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file))
    assert {name: tensor.dtype for name, tensor in second.state_dict().items()} == {
        "value": torch.float32,
        "smoothed": torch.float32,
    }
    assert follow(second, errors[100:]) == whole[100:]


def test_a_fixed_multiplier_ignores_every_violation():
    multiplier = Fixed(level=0.75)
    assert follow(multiplier, violations(1)) == [0.75] * 200


@pytest.mark.parametrize("share", [1.0, 0.05])
@pytest.mark.parametrize("slack", [1.5, -0.5])
def test_it_solves_a_problem_with_a_known_solution(slack, share):
    """min ½‖x‖² subject to aᵀx ≥ b has x* = a·b/‖a‖², λ* = b/‖a‖² for b > 0, else x* = 0 and λ* = 0."""
    a, b = torch.tensor([1.0, -2.0, 0.5]), slack
    multiplier = nupi(0.5, 0.5, 0.1 / share)
    x, seen = torch.tensor([0.4, 0.4, 0.4]) if b > 0 else torch.zeros(3), []
    for _ in range(2000):
        violation = b - a @ x
        seen.append(multiplier.value.item())
        x = x - 0.1 * (x - multiplier.value * a)
        multiplier.update(violation, share, APPLIED)
    expected = max(b, 0.0) / (a @ a).item()
    assert multiplier.value.item() == pytest.approx(expected, abs=1e-3)
    torch.testing.assert_close(x, a * expected, rtol=0, atol=1e-3)
    if b < 0:
        assert max(seen) == 0.0


@pytest.mark.parametrize("nu", [-0.1, 1.0])
def test_a_smoothing_outside_its_range_is_refused(nu):
    with pytest.raises(DanteError, match="nu"):
        nupi(nu, 1.0, 1.0)


@pytest.mark.parametrize("gains", [(-1.0, 0.5), (0.5, -1.0)])
def test_a_negative_gain_is_refused(gains):
    k_i, k_p = gains
    with pytest.raises(DanteError, match="k_i" if k_i < 0 else "k_p"):
        nupi(0.5, k_p, k_i)
