"""What lowering the entropy does to the label and to wrong tokens, under each guard, for steps of any size.

The gradient comes from the vocabulary pass with an identity head: hidden states are logits. A step goes along the
straight line z − s·∂H/∂z with s > 0, where p moves as log p_j(s) = log p_j + s f_j − log Σ_i p_i exp(s f_i) and
f_i = p_i (log p_i + H).
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dante.losses.dual_penalty.guards import GUARDS
from dante.losses.dual_penalty.penalty import DualPenalty
from dante.losses.entropy_penalty import EntropyPenalty
from dante.losses.multiplier import Fixed
from dante.losses.one_pass import vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.tokens import SupervisedTokens
from dante.losses.vocabulary.head import Head
from tests import reference, reference_dual

STEPS = [1e-3, 0.1, 1.0, 5.0, 30.0, 1e3, 1e4]
#: The label, a close runner-up, a tail of 33 equal tokens: all guards but `only_label_rises` let the runner-up gain.
CLOSE_RUNNER_UP = [0.34, 0.33] + [0.01] * 33
WRONG_ON_TOP = [0.5, 0.3, 0.1, 0.1]


def penalty(guard, threshold=0.0):
    """ℓ = a [H/log V − τ]₊ with coefficient 1/N; τ not known: ℓ = 0, but its guard is there for every token."""
    loss = DualPenalty(
        Constant(1.0), "predictive", guard, 0.2, 0.0, 0.1, Constant(1.0), 0.0, Fixed(1.0), threshold, 0.0, "ads"
    )
    loss.coefficient.fill_(1.0)
    return loss


def on_logits(loss, logits, labels):
    """The pass where hidden states are logits."""
    tokens = SupervisedTokens(labels, torch.zeros_like(labels), {}, len(labels), 1)
    head = Head(torch.eye(logits.shape[1], dtype=torch.float64))
    tile_tokens = 3 if len(labels) < 100 else 1000
    return vocabulary_pass(logits, head, [loss], {loss.name: 1.0}, tokens, torch.float64, tile_tokens)


def direction(guard, logits, labels):
    """−a ∂H/∂z of each token, as the pass has it."""
    logits = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(on_logits(penalty(guard), logits, labels).total, logits)
    return -gradient * len(labels) * math.log(logits.shape[1])


def path(logits, moved, step):
    """log p before, log p after."""
    return torch.log_softmax(logits, dim=1), torch.log_softmax(logits + step * moved, dim=1)


def tolerance(step):
    """Rounding of f is carried along by the step."""
    return 1e-12 * (1.0 + step)


def guards_of(guard, logits, labels):
    return on_logits(penalty(guard, threshold=None), logits, labels).kept["ads"]["guard"]


@st.composite
def distributions(draw):
    """Logits of a few tokens: some heads, often tied or nearly so, over a long tail, flat or rough."""
    vocab = draw(st.sampled_from([2, 3, 7, 40]))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        heads = draw(st.lists(st.integers(-8, 24), min_size=1, max_size=min(vocab, 6)))
        close = draw(st.sampled_from([0.0, 0.02, 0.25, 1.0]))
        tail, rough = draw(st.integers(-96, 24)) / 8, draw(st.sampled_from([0.0, 0.0, 0.1, 2.0]))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        row = tail + rough * torch.randn(vocab, generator=generator, dtype=torch.float64)
        row[torch.randperm(vocab, generator=generator)[: len(heads)]] = close * torch.tensor(heads, dtype=torch.float64)
        rows.append(row)
    return torch.stack(rows)


@st.composite
def labelled(draw):
    """Distributions, each with a label that is often the most likely token."""
    logits = draw(distributions())
    most_likely = logits.argmax(dim=1)
    other = torch.tensor([draw(st.integers(0, logits.shape[1] - 1)) for _ in most_likely])
    chosen = torch.tensor([draw(st.integers(0, 3)) == 0 for _ in most_likely])
    return logits, torch.where(chosen, other, most_likely)


def many_distributions(count=4000, vocab=30):
    """A fixed sweep; the label is the most likely token of each."""
    generator = torch.Generator().manual_seed(11)
    draw = {"generator": generator, "dtype": torch.float64}
    logits = 3.0 * torch.rand(count, 1, **draw) * torch.randn(count, vocab, **draw)
    logits[:, :2] = 4.0 * torch.rand(count, 1, **draw) + 0.2 * torch.randn(count, 2, **draw).abs()
    return logits, logits.argmax(dim=1)


# The references themselves.


@settings(deadline=None, max_examples=60)
@given(logits=distributions())
def test_the_entropys_gradient_is_the_analytic_one(logits):
    row = logits[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reference_dual.entropy_of(torch.softmax(row, dim=0)), row)
    f = reference_dual.slope_of_certainty(torch.softmax(row.detach(), dim=0))
    torch.testing.assert_close(gradient, -f, rtol=1e-9, atol=1e-14)
    numeric = reference.finite_difference(
        lambda z: reference_dual.entropy_of(torch.softmax(z, dim=0)), row.detach(), step=1e-5
    )
    torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-9)


# The implementation against them.


def is_clear(logits):
    """Rows whose runner-up is not just on the edge of rising: there rounding decides."""
    clear = []
    for p in torch.softmax(logits, dim=1):
        f = reference_dual.slope_of_certainty(p)
        clear.append(abs(f.topk(2).values[1] - (p * f).sum()) > 1e-12)
    return torch.tensor(clear)


@settings(deadline=None, max_examples=60)
@given(case=labelled())
def test_every_guard_and_the_gradient_are_the_references(case):
    logits, labels = case
    f = torch.stack([reference_dual.slope_of_certainty(torch.softmax(row, dim=0)) for row in logits])
    for guard in GUARDS:
        checked = is_clear(logits) if guard == "only_label_rises" else torch.ones_like(labels, dtype=torch.bool)
        ours, expected = guards_of(guard, logits, labels), reference_dual.guard_of(guard, logits, labels)
        torch.testing.assert_close(ours[checked], expected[checked], rtol=1e-12, atol=0)
        moved = direction(guard, logits, labels)
        torch.testing.assert_close(moved[checked], (expected[:, None] * f)[checked], rtol=1e-9, atol=1e-13)


def test_top5_is_five():
    """Labels of rank 1 to 7; then one that ties with all others, so that none is more likely."""
    logits = torch.arange(7.0, 0.0, -1.0, dtype=torch.float64).expand(7, 7).contiguous()
    assert guards_of("label_in_top5", logits, torch.arange(7)).tolist() == [1.0] * 5 + [0.0] * 2
    tied = torch.zeros(1, 7, dtype=torch.float64)
    assert guards_of("label_in_top5", tied, torch.tensor([6])).item() == 1.0


# What a step of any size does.


@pytest.mark.parametrize("guard", ["label_is_argmax", "only_label_rises"])
@settings(deadline=None, max_examples=60)
@given(case=labelled())
def test_the_label_never_falls_nor_do_its_odds(guard, case):
    logits, labels = case
    moved = direction(guard, logits, labels)
    for step in STEPS:
        before, after = path(logits, moved, step)
        label_before, label_after = before.gather(1, labels[:, None]), after.gather(1, labels[:, None])
        assert (label_after >= label_before - tolerance(step)).all()
        assert ((label_after - after) >= (label_before - before) - tolerance(step)).all()


@settings(deadline=None, max_examples=60)
@given(case=labelled())
def test_only_label_rises_lets_no_wrong_token_rise(case):
    logits, labels = case
    moved = direction("only_label_rises", logits, labels)
    for step in STEPS:
        before, after = path(logits, moved, step)
        rises = (after > before + tolerance(step)).scatter(1, labels[:, None], False)
        assert not rises.any()


def test_only_label_rises_holds_over_a_sweep_and_refuses_nothing_that_is_safe():
    """Where it says no although the label is on top, a small step does raise the runner-up."""
    logits, labels = many_distributions()
    allowed = guards_of("only_label_rises", logits, labels).bool()
    assert 0.2 < allowed.double().mean() < 0.9
    moved = direction("only_label_rises", logits, labels)
    assert (moved.abs().sum(dim=1) > 0).equal(allowed)
    for step in STEPS:
        before, after = path(logits, moved, step)
        assert not (after > before + tolerance(step)).scatter(1, labels[:, None], False).any()
    p, f = torch.softmax(logits, dim=1), direction("none", logits, labels)
    margin = f.topk(2, dim=1).values[:, 1] - (p * f).sum(dim=1)
    refused = ~allowed & (margin > 1e-3)
    assert refused.sum() > 100
    before, after = path(logits[refused], f[refused], step=1e-5)
    assert (after > before).scatter(1, labels[refused][:, None], False).any(dim=1).all()


def test_a_close_runner_up_rises_although_the_label_is_the_most_likely_token():
    """From 0.33 to 0.44 at the worst step; the label gains more (0.34 → 0.53). Only `only_label_rises` prevents it."""
    logits, labels = torch.tensor([CLOSE_RUNNER_UP], dtype=torch.float64).log(), torch.tensor([0])
    before, after = path(logits, direction("label_is_argmax", logits, labels), step=6.85)
    assert after[0, 1].exp().item() == pytest.approx(0.44274, abs=1e-4)
    assert after[0, 0].exp().item() == pytest.approx(0.52888, abs=1e-3)
    assert before[0, 1].exp().item() == pytest.approx(0.33)
    assert direction("only_label_rises", logits, labels).abs().max().item() == 0.0


@pytest.mark.parametrize("guard", ["label_probability", "label_in_top5", "none"])
def test_other_guards_reward_a_wrong_token(guard):
    """p = (0.5 wrong, 0.3 label, 0.1, 0.1): the wrong token rises and the label falls."""
    logits, labels = torch.tensor([WRONG_ON_TOP], dtype=torch.float64).log(), torch.tensor([1])
    for step in (0.1, 1.0, 10.0):
        before, after = path(logits, direction(guard, logits, labels), step)
        assert after[0, 0] > before[0, 0] + 1e-3
        assert after[0, 1] < before[0, 1] - 1e-3


@pytest.mark.parametrize("guard", ["label_is_argmax", "only_label_rises"])
def test_a_wrong_token_on_top_is_left_alone(guard):
    logits, labels = torch.tensor([WRONG_ON_TOP], dtype=torch.float64).log(), torch.tensor([1])
    assert direction(guard, logits, labels).abs().max().item() == 0.0


@settings(deadline=None, max_examples=60)
@given(
    label=st.floats(0.5, 0.99),
    of_rest=st.floats(0.01, 0.99),
    tail=st.sampled_from([1, 2, 5, 40, 400]),
)
def test_a_label_with_half_the_probability_always_passes(label, of_rest, tail):
    """Let L_i = log p_i + H and t = 1 − p_1 − p_2. If L_2 ≤ 0, then f(p_2) ≤ 0 ≤ Σ p f. Else

        Σ p f − f(p_2) = p_1² L_1 − p_2 (1 − p_2) L_2 + Σ_tail p² L ≥ p_1² log(p_1/p_2) − t/e ≥ t/2 − t/e,

    since p_1² ≥ 1/4 ≥ p_2 (1 − p_2), log(p_1/p_2) ≥ −log(1 − 2t) ≥ 2t, and p (log p + H) ≥ −exp(−1 − H) ≥ −1/e.
    """
    second = (1.0 - label) * of_rest
    rest = (1.0 - label - second) / tail
    p = torch.tensor([label, second] + [rest] * tail, dtype=torch.float64)
    labels = torch.tensor([0])
    f = reference_dual.slope_of_certainty(p)
    assert (p * f).sum() - f.topk(2).values[1] >= (0.5 - 1.0 / math.e) * (1.0 - label - max(second, rest)) - 1e-12
    assert guards_of("only_label_rises", p.log()[None], labels).item() == 1.0


def test_just_below_one_half_is_not_enough():
    """0.45 against 0.44 over a tail of 400: the runner-up would rise."""
    p = torch.tensor([0.45, 0.44] + [0.11 / 400] * 400, dtype=torch.float64)
    assert guards_of("only_label_rises", p.log()[None], torch.tensor([0])).item() == 0.0


# The control without guard, threshold, bound.


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("tile_tokens", [1, 4, 100])
def test_the_entropy_penalty_is_the_mean_normalised_entropy(tile_tokens, softcap):
    generator = torch.Generator().manual_seed(2)
    draw = {"generator": generator, "dtype": torch.float64}
    hidden, weight = torch.randn(9, 6, **draw).requires_grad_(), torch.randn(31, 6, **draw).requires_grad_()
    bias = torch.randn(31, **draw).requires_grad_()
    labels = torch.randint(0, 31, (9,), generator=generator)
    expected = reference_dual.predictive(reference.dense_logits(hidden, weight, bias, 0.7, softcap)).sum() / 12
    loss = EntropyPenalty(Constant(1.0))
    tokens = SupervisedTokens(labels, torch.zeros_like(labels), {}, 12, 1)
    head = Head(weight, bias, 0.7, softcap)
    result = vocabulary_pass(hidden, head, [loss], {loss.name: 0.4}, tokens, torch.float64, tile_tokens)
    inputs = [hidden, weight, bias]
    torch.testing.assert_close(result.total, 0.4 * expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(result.total, inputs), torch.autograd.grad(0.4 * expected, inputs), rtol=1e-9, atol=1e-12
    )
