"""The dual penalty in the vocabulary pass, and the whole controller over a run, against the slow reference."""

import io
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dante.errors import DanteError
from dante.losses.ce import CE
from dante.losses.dual_penalty import DualPenalty
from dante.losses.dual_penalty.guards import GUARDS
from dante.losses.dual_penalty.penalty import SMALLEST_UNIT
from dante.losses.dual_penalty.signals import SIGNALS
from dante.losses.dual_penalty.tally import BINS, excess, quantile, tally
from dante.losses.multiplier import Fixed, NuPI
from dante.losses.one_pass import vocabulary_pass
from dante.losses.schedule import Constant, HoldThenRamp
from dante.losses.tokens import SupervisedTokens
from dante.losses.vocabulary import projection
from dante.losses.vocabulary.head import Head
from tests import reference, reference_dual

WIDTH, VOCAB, STEP_TOKENS = 5, 23, 20
#: Records of one token, of two, of fewer and of more than the width.
RECORD = torch.tensor([0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3])
APPLIED, SKIPPED = torch.tensor(True), torch.tensor(False)


@pytest.fixture(autouse=True)
def few_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(projection, "_CACHE_BYTES", 512)


def draw_hidden(seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(len(RECORD), WIDTH, generator=generator, dtype=torch.float64)


@pytest.fixture
def problem():
    """Hidden states, head, labels."""
    generator = torch.Generator().manual_seed(3)
    draw = {"generator": generator, "dtype": torch.float64}
    hidden = draw_hidden(4).requires_grad_()
    weight, bias = torch.randn(VOCAB, WIDTH, **draw).requires_grad_(), torch.randn(VOCAB, **draw).requires_grad_()
    return hidden, weight, bias, labels_for(hidden, weight, bias)


def labels_for(hidden, weight, bias):
    """Every second label is the most likely token, or nearly."""
    labels = torch.randint(0, VOCAB, (len(RECORD),), generator=torch.Generator().manual_seed(6))
    labels[::2] = reference.dense_logits(hidden, weight, bias).argmax(dim=1)[::2]
    return labels


def supervised(labels, record=RECORD, step_tokens=STEP_TOKENS):
    return SupervisedTokens(labels, record, {}, step_tokens, 4)


def penalty(signal="predictive", guard="none", threshold=0.0, initial_bound=0.0, **changes):
    """A dual penalty whose τ is known and whose μ is 0.75, unless told otherwise."""
    settings = {
        "difficult": 0.25,
        "measure_from": 0.0,
        "measure_until": 0.25,
        "bound": Constant(1.0),
        "augmentation": 0.0,
        "multiplier": Fixed(0.75),
        **changes,
    }
    loss = DualPenalty(
        Constant(1.0), signal, guard, threshold=threshold, initial_bound=initial_bound, name="ads", **settings
    )
    loss.coefficient.fill_(0.75)
    return loss


def run(losses, hidden, head, tokens, tile_tokens=4, dtype=torch.float64, lam=1.0):
    weights = {loss.name: lam for loss in losses}
    return vocabulary_pass(hidden, head, losses, weights, tokens, dtype, tile_tokens)


def middle(signal, hidden, logits):
    """A threshold between two of the signal's values: some tokens are above it, some below."""
    values = sorted(set(reference_dual.signal_of(signal, logits, hidden, RECORD).tolist()), reverse=True)
    place = {"gram": 0}.get(signal, 4)
    return (values[place] + values[place + 1]) / 2


# Value and gradients.


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_references_gradient_equals_finite_differences(problem, signal):
    hidden, weight, _, labels = problem

    def value(h, w):
        logits = reference.dense_logits(h, w)
        return reference_dual.penalty(h, logits, labels, RECORD, signal, "label_is_argmax", threshold, STEP_TOKENS)

    threshold = middle(signal, hidden.detach(), reference.dense_logits(hidden, weight).detach())
    ours = torch.autograd.grad(value(hidden, weight), [hidden, weight], allow_unused=True, materialize_grads=True)
    with torch.no_grad():
        by_hidden = reference.finite_difference(lambda h: value(h, weight), hidden.detach())
        by_weight = reference.finite_difference(lambda w: value(hidden, w), weight.detach())
    assert ours[0].abs().max() > 1e-4
    torch.testing.assert_close(ours, (by_hidden, by_weight), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("multiplier", "softcap"), [(1.0, None), (0.7, 8.0)])
@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("signal", SIGNALS)
def test_value_and_gradients_equal_the_dense_reference(problem, signal, guard, multiplier, softcap):
    hidden, weight, bias, labels = problem
    logits = reference.dense_logits(hidden, weight, bias, multiplier, softcap)
    loss = penalty(signal, guard, middle(signal, hidden.detach(), logits.detach()))
    threshold = loss.threshold.item()  # as fp32 has it
    expected = reference_dual.penalty(hidden, logits, labels, RECORD, signal, guard, threshold, STEP_TOKENS)
    inputs = [hidden, weight, bias]
    theirs = torch.autograd.grad(0.5 * 0.75 * expected, inputs, allow_unused=True, materialize_grads=True)
    assert expected.item() > 1e-3
    for tile_tokens in (1, 3, 5, 100):
        head = Head(weight, bias, multiplier, softcap)
        result = run([loss], hidden, head, supervised(labels), tile_tokens, lam=0.5)
        torch.testing.assert_close(result.total, 0.5 * 0.75 * expected, rtol=1e-9, atol=0)
        torch.testing.assert_close(torch.autograd.grad(result.total, inputs), theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_signal_is_the_references(problem, signal):
    hidden, weight, bias, labels = problem
    result = run([penalty(signal)], hidden, Head(weight, bias), supervised(labels))
    expected = reference_dual.signal_of(signal, reference.dense_logits(hidden, weight, bias), hidden, RECORD)
    torch.testing.assert_close(result.kept["ads"]["signal"], expected.detach(), rtol=1e-10, atol=1e-12)


def test_signals_at_their_ends():
    """1 where everything is equally likely, 0 where one thing is certain; two tokens have a Gram matrix of rank 1."""
    even = torch.ones(4, WIDTH, dtype=torch.float64)
    one = torch.nn.functional.pad(torch.ones(4, 1, dtype=torch.float64), (0, WIDTH - 1))
    record = torch.tensor([0, 1, 1, 2])
    torch.testing.assert_close(SIGNALS["energy"](even, record), torch.ones(4, dtype=torch.float64))
    assert SIGNALS["energy"](one, record).abs().max() < 1e-12
    assert SIGNALS["gram"](draw_hidden(1)[:4], record).abs().max() < 1e-12
    whitened = torch.eye(4, dtype=torch.float64)  # centred: three equal eigenvalues, of four possible
    signal = SIGNALS["gram"](whitened, torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(signal, torch.full_like(signal, math.log(3) / math.log(4)))


def test_states_that_are_all_the_same_have_a_gram_of_zero_and_a_finite_gradient(problem):
    _, weight, _, labels = problem
    hidden = torch.ones(len(RECORD), WIDTH, dtype=torch.float64).requires_grad_()
    result = run([penalty("gram")], hidden, Head(weight), supervised(labels))
    assert result.total.item() == 0.0
    assert torch.autograd.grad(result.total, hidden)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("guard", ["label_is_argmax", "label_probability"])
@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("signal", SIGNALS)
def test_at_coefficient_zero_the_pass_is_bitwise_the_plain_one(problem, signal, threshold, guard, softcap, dtype):
    storage = torch.float64 if dtype == torch.float64 else torch.float32
    hidden, weight, bias = (t.detach().to(storage).requires_grad_() for t in problem[:3])
    head, tokens, inputs = Head(weight, bias, 0.7, softcap), supervised(problem[3]), [hidden, weight, bias]
    loss = penalty(signal, guard, threshold)
    loss.coefficient.zero_()
    plain = run([CE(Constant(1.0))], hidden, head, tokens, dtype=dtype)
    both = run([CE(Constant(1.0)), loss], hidden, head, tokens, dtype=dtype)
    assert torch.equal(plain.total, both.total)
    pairs = zip(torch.autograd.grad(plain.total, inputs), torch.autograd.grad(both.total, inputs), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_without_gradients_the_value_is_the_same(problem):
    hidden, weight, bias, labels = problem
    for signal in SIGNALS:
        with torch.no_grad():
            without = run([penalty(signal)], hidden, Head(weight, bias), supervised(labels))
        result = run([penalty(signal)], hidden, Head(weight, bias), supervised(labels))
        torch.testing.assert_close(without.total, result.total.detach(), rtol=1e-12, atol=0)
        assert not without.total.requires_grad


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("keep", [[], [0], [0, 1, 2]])
def test_a_micro_batch_without_tokens_or_with_short_records_only(problem, keep, signal):
    """Ranks that have no record left run an empty row, and an answer may be one token."""
    hidden, weight, _, labels = problem
    hidden = hidden.detach()[keep].requires_grad_()
    loss, tokens = penalty(signal), supervised(labels[keep], RECORD[keep])
    result = run([loss], hidden, Head(weight), tokens)
    gradients = torch.autograd.grad(result.total, [hidden, weight])
    assert all(gradient.isfinite().all() for gradient in gradients)
    shares = loss.metrics(tokens, result.values["ads"], result.kept["ads"])
    whole = loss.metrics(supervised(labels), *_values_and_kept(loss, problem))
    assert {name: share.shape for name, share in shares.items()} == {name: s.shape for name, s in whole.items()}
    assert shares["tally"][:2].sum().item() == len(keep)


def _values_and_kept(loss, problem):
    hidden, weight, _, labels = problem
    result = run([loss], hidden, Head(weight), supervised(labels))
    return result.values["ads"], result.kept["ads"]


# What is measured.

signals = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@settings(deadline=None, max_examples=40)
@given(values=signals, share=st.sampled_from([0.125, 0.25, 0.5, 0.75]))
def test_the_quantile_is_right_to_a_bin(values, share):
    counts = tally(torch.tensor(values, dtype=torch.float64), torch.ones(1, len(values)))[0]
    ours = quantile(counts, 1 - share).item()
    assert ours == pytest.approx(reference_dual.quantile_threshold(values, share), abs=1 / BINS + 1e-12)


@settings(deadline=None, max_examples=40)
@given(values=signals, threshold=st.floats(0, 1), seed=st.integers(0, 9))
def test_the_mean_excess_is_right_to_half_a_bin(values, threshold, seed):
    signal = torch.tensor(values, dtype=torch.float64)
    guard = torch.rand(len(values), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    exact = reference_dual.excess(signal, guard, threshold).sum().item()
    ours = excess(tally(signal, guard[None])[0], torch.tensor(threshold, dtype=torch.float64)).item()
    assert ours == pytest.approx(exact, abs=0.5 / BINS * guard.sum().item() + 1e-9)


def test_on_a_smooth_distribution_both_are_close():
    generator = torch.Generator().manual_seed(0)
    signal = torch.rand(5000, generator=generator, dtype=torch.float64) ** 2
    counts = tally(signal, torch.ones(1, len(signal)))[0]
    threshold = quantile(counts, 0.75)
    assert threshold.item() == pytest.approx(signal.quantile(0.75).item(), abs=5e-4)
    exact = (signal - threshold).clamp_min(0).sum()
    assert excess(counts, threshold).item() == pytest.approx(exact.item(), rel=1e-3)


# A whole run.

STEPS = 16
#: The steps that are measured, of 16, by `measure_from` 0.125 and `measure_until` 0.3125.
MEASURED = (2, 3, 4)
AUGMENTATION = 0.5


def controlled(signal="predictive", guard="label_is_argmax", **changes):
    settings = {
        "threshold": None,
        "initial_bound": None,
        "measure_from": 0.125,
        "measure_until": 0.3125,
        "bound": HoldThenRamp(1.0, 0.5, 0.3125),
        "augmentation": AUGMENTATION,
        "multiplier": NuPI(k_i=12.0, k_p=0.6, nu=0.5, maximum=1.5),
        **changes,
    }
    loss = penalty(signal, guard, **settings)
    loss.coefficient.zero_()
    loss.begin(STEPS)
    return loss


def scale_of(step):
    """Flat predictions first, sharp ones around step 8 (the constraint holds), then flat again."""
    return 1.0 if step < 6 else 6.0 if step < 9 else 0.5


def one_step(loss, problem, step, applied=APPLIED, poison=1.0):
    """An optimizer step of two micro-batches; returns what the loss logs, and the gradient."""
    _, weight, bias, _ = problem
    hidden = draw_hidden(100 + step, scale_of(step))
    labels = labels_for(hidden, weight, bias)
    hidden = (poison * hidden).requires_grad_()
    sums, total = {}, 0.0
    for keep in (RECORD <= 2, RECORD > 2):
        tokens = supervised(labels[keep], RECORD[keep], step_tokens=len(RECORD))
        result = run([loss], hidden[keep], Head(weight, bias), tokens)
        total = total + result.total
        for name, share in loss.metrics(tokens, result.values["ads"], result.kept["ads"]).items():
            sums[name] = sums.get(name, 0) + share
    (gradient,) = torch.autograd.grad(total, hidden)
    logged = loss.logged(dict(sums), step / STEPS)
    loss.on_optimizer_step(step / STEPS, sums, applied)
    return {name: value.item() for name, value in logged.items()}, gradient


class Step:
    """What the reference says of one step's tokens."""

    def __init__(self, problem, signal, guard, step):
        _, weight, bias, _ = problem
        self.hidden = draw_hidden(100 + step, scale_of(step)).requires_grad_()
        self.labels = labels_for(self.hidden, weight, bias)
        self.logits = reference.dense_logits(self.hidden, weight, bias)
        self.signal = reference_dual.signal_of(signal, self.logits, self.hidden, RECORD)
        self.guard = reference_dual.guard_of(guard, self.logits, self.labels)
        p = torch.softmax(self.logits.detach(), dim=1)
        self.entropy = torch.stack([reference_dual.entropy_of(row) for row in p])
        self.right = reference_dual.guard_of("label_is_argmax", self.logits, self.labels)

    def excess(self, threshold):
        return reference_dual.excess(self.signal, self.guard, threshold).sum() / len(RECORD)


@pytest.mark.parametrize("guard", ["label_is_argmax", "label_probability"])
@pytest.mark.parametrize("signal", SIGNALS)
def test_a_run_follows_the_reference(problem, signal, guard):
    loss = controlled(signal, guard)
    controller = reference_dual.Controller(12.0, 0.6, 0.5, 1.5, AUGMENTATION)
    measured, seen = [], []
    for step in range(STEPS):
        truth = Step(problem, signal, guard, step)
        if step <= MEASURED[-1]:
            assert math.isnan(loss.threshold.item())
        threshold, initial_bound = loss.threshold.item(), loss.initial_bound.item()
        logged, gradient = one_step(loss, problem, step)
        if step in MEASURED:
            measured.append(truth)
        if step <= MEASURED[-1]:
            assert gradient.abs().max() == 0.0
            assert logged["coefficient"] == logged["multiplier"] == 0.0
            absent = {name for name, value in logged.items() if math.isnan(value)}
            assert absent == set(logged) - {"coefficient", "multiplier"}
        else:
            bound = initial_bound * (1.0 - 0.5 * max(0.0, (step / STEPS - 0.3125) / 0.6875))
            excess_mean = truth.excess(threshold)
            violation = excess_mean.item() - bound
            assert logged["excess"] == pytest.approx(excess_mean.item(), rel=1e-9)
            assert logged["bound"] == pytest.approx(bound, rel=1e-6)
            assert logged["violation"] == pytest.approx(violation, rel=1e-5, abs=1e-7)
            assert logged["threshold"] == threshold
            assert logged["coefficient"] == pytest.approx(controller.coefficient, rel=1e-5, abs=1e-6)
            assert logged["multiplier"] == pytest.approx(controller.multiplier, rel=1e-5, abs=1e-6)
            (expected,) = torch.autograd.grad(logged["coefficient"] * excess_mean, truth.hidden)
            torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-12)
            controller.step(violation / max(initial_bound, SMALLEST_UNIT), share=1 / STEPS)
            seen.append((violation, controller.multiplier, controller.coefficient))
        if step == MEASURED[-1]:
            values = torch.cat([one.signal.detach() for one in measured])
            exact = reference_dual.quantile_threshold(values.tolist(), 0.25)
            assert loss.threshold.item() == pytest.approx(exact, abs=1 / BINS + 1e-6)
            mean = sum(one.excess(loss.threshold.item()).item() for one in measured) / len(MEASURED)
            assert loss.initial_bound.item() == pytest.approx(mean, abs=0.5 / BINS)
            assert loss.initial_bound.item() > 0.0
    # The run has both signs of g, both ends of λ, and a μ that is not λ.
    assert min(g for g, _, _ in seen) < 0.0 < max(g for g, _, _ in seen)
    assert max(multiplier for _, multiplier, _ in seen) == 1.5
    assert any(coefficient != multiplier for _, multiplier, coefficient in seen)


def test_what_is_logged_of_difficult_and_easy_tokens(problem):
    loss = controlled(threshold=0.4, initial_bound=0.01)
    truth = Step(problem, "predictive", "label_is_argmax", 7)
    logged, _ = one_step(loss, problem, 7)
    hard = truth.signal.detach() > loss.threshold.item()
    assert 0 < hard.sum() < len(RECORD)
    expected = {
        "difficult_share": hard.double().mean(),
        "difficult_entropy": truth.entropy[hard].mean(),
        "easy_entropy": truth.entropy[~hard].mean(),
        "difficult_accuracy": truth.right[hard].mean(),
        "difficult_wrong": 1.0 - truth.right[hard].mean(),
        "easy_accuracy": truth.right[~hard].mean(),
    }
    assert {name: logged[name] for name in expected} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, rel=1e-9
    )


def test_a_fixed_multiplier_begins_when_measuring_ends(problem):
    loss = controlled(multiplier=Fixed(0.5), augmentation=0.0)
    coefficients = [one_step(loss, problem, step)[0]["coefficient"] for step in range(STEPS)]
    assert coefficients == [0.0] * (MEASURED[-1] + 1) + [0.5] * (STEPS - MEASURED[-1] - 1)


def test_given_threshold_and_bound_are_kept(problem):
    loss = controlled(threshold=0.25, initial_bound=0.125)
    for step in range(STEPS):
        one_step(loss, problem, step)
        assert (loss.threshold.item(), loss.initial_bound.item()) == (0.25, 0.125)


def test_a_bound_of_zero_counts_in_the_smallest_unit(problem):
    """Where nothing exceeded τ while it was measured, g is in units of 1e-4: finite."""
    multiplier = NuPI(k_i=0.001, k_p=0.0, nu=0.0, maximum=1e9)
    loss = controlled(threshold=0.25, initial_bound=0.0, multiplier=multiplier, augmentation=0.0)
    logged, _ = one_step(loss, problem, 5)
    assert logged["violation"] == logged["excess"] > 0.0
    assert multiplier.value.item() == pytest.approx(0.001 * logged["excess"] / 1e-4 / STEPS, rel=1e-5)


def test_nothing_moves_what_was_measured(problem):
    loss = controlled()
    for step in range(MEASURED[-1] + 1):
        one_step(loss, problem, step)
    frozen = loss.threshold.item(), loss.initial_bound.item()
    for step in range(MEASURED[-1] + 1, STEPS):
        one_step(loss, problem, step)
        assert (loss.threshold.item(), loss.initial_bound.item()) == frozen


# Steps that are not applied, checkpoints, the summary.


@pytest.mark.parametrize("poison", [1.0, math.nan])
@pytest.mark.parametrize("guard", ["label_is_argmax", "label_probability"])
@pytest.mark.parametrize("step", [0, 2, 7, STEPS - 1])
def test_a_skipped_update_changes_no_bit(problem, step, guard, poison):
    """Not even where the hidden states are not finite, which is why an update is skipped."""
    loss = controlled(guard=guard)
    for earlier in range(step):
        one_step(loss, problem, earlier)
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    one_step(loss, problem, step, SKIPPED, poison)
    after = loss.state_dict()
    assert all(_bits(before[name]) == _bits(after[name]) for name in before)


def test_measuring_ends_even_with_a_skipped_step(problem):
    loss, other = controlled(), controlled()
    for step in MEASURED[:-1]:
        one_step(loss, problem, step)
        one_step(other, problem, step)
    one_step(loss, problem, MEASURED[-1], SKIPPED, math.nan)
    expected = quantile(other.before[:2].sum(0), 0.75).item()
    assert loss.threshold.item() == pytest.approx(expected, rel=1e-6)
    assert loss.initial_bound.isfinite()


@pytest.mark.parametrize("stop", [1, 3, 5, 11])
def test_a_run_that_is_resumed_is_bitwise_the_uninterrupted_one(problem, stop):
    whole, first, second = controlled(), controlled(), controlled()
    expected = [one_step(whole, problem, step) for step in range(STEPS)]
    for step in range(stop):
        one_step(first, problem, step)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file))
    for step in range(stop, STEPS):
        _, gradient = one_step(second, problem, step)
        assert torch.equal(gradient, expected[step][1])
    final, other = whole.state_dict(), second.state_dict()
    assert all(_bits(final[name]) == _bits(other[name]) for name in final)


def test_the_state_is_these_buffers():
    state = {name: tensor.dtype for name, tensor in controlled().state_dict().items()}
    scalars = ("coefficient", "threshold", "initial_bound", "multiplier.value", "multiplier.smoothed")
    assert state == dict.fromkeys(scalars, torch.float32) | dict.fromkeys(("before", "after"), torch.float64)


def test_the_summary_counts_the_measured_and_the_last_tokens(problem):
    loss = controlled()
    steps = [Step(problem, "predictive", "label_is_argmax", step) for step in range(STEPS)]
    for step in range(STEPS):
        one_step(loss, problem, step)
    summary = json.loads(json.dumps(loss.summary()))
    histograms = summary.pop("histograms")
    assert summary == {
        "notes": [],
        "signal": "predictive",
        "guard": "label_is_argmax",
        "guard_words": "only where the label is the most likely token",
        "signal_axis": "predictive entropy H / log V",
        "threshold": loss.threshold.item(),
        "initial_bound": loss.initial_bound.item(),
        "multiplier": loss.multiplier.value.item(),
    }
    assert histograms["edges"] == [i / 128 for i in range(129)]
    for when, chosen in (("before", MEASURED), ("after", range(STEPS - len(MEASURED), STEPS))):
        signal = torch.cat([steps[step].signal.detach() for step in chosen])
        right = torch.cat([steps[step].right for step in chosen]).bool()
        for which, mask in (("right", right), ("wrong", ~right)):
            assert histograms[when][which] == torch.histc(signal[mask], 128, 0.0, 1.0).tolist()


def test_the_summary_of_a_run_that_never_measured_is_json():
    summary = json.loads(json.dumps(controlled().summary(), allow_nan=False))
    assert summary["threshold"] is None
    assert summary["initial_bound"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"signal": "temperature"},
        {"guard": "always"},
        {"difficult": 0.0},
        {"measure_from": 0.5},
        {"measure_until": 1.0},
        {"augmentation": -1.0},
        {"threshold": 1.5},
        {"initial_bound": -0.1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_setting_outside_its_range_is_named(changes):
    with pytest.raises(DanteError, match=next(iter(changes))):
        penalty(**changes)


def test_a_run_that_would_only_measure_is_refused():
    with pytest.raises(DanteError, match="1 optimizer steps"):
        controlled().begin(1)
    controlled().begin(3)


def _bits(tensor):
    """Comparable bit for bit, also where it is not a number."""
    return tensor.numpy().tobytes()
