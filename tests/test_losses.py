"""Values and gradients of the token losses against dense float64 references and finite differences."""

import pytest
import torch

from dante.errors import DanteError
from dante.losses.ce import CE
from dante.losses.cwce import CWCE, confidence_weight
from dante.losses.one_pass import vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.tokens import SupervisedTokens
from dante.losses.vocabulary.head import Head
from tests import reference

WIDTH, VOCAB = 6, 23
ENTROPY = [0.1, 0.9, 2.5]
RECORD = torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 2])


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(3)
    draw = {"generator": generator, "dtype": torch.float64}
    hidden = torch.randn(len(RECORD), WIDTH, **draw).requires_grad_()
    weight = torch.randn(VOCAB, WIDTH, **draw).requires_grad_()
    labels = torch.randint(0, VOCAB, (len(RECORD),), generator=generator)
    return hidden, weight, labels


def supervised(labels, step_tokens=None, step_records=None, record=RECORD):
    counts = torch.bincount(record, minlength=len(ENTROPY))
    entropy = torch.tensor(ENTROPY)
    # As every batch has it; only the lower bound is a weight's H.
    fields = {"output_entropy": entropy, "output_entropy_upper": entropy + 1.0, "supervised_tokens": counts}
    return SupervisedTokens(labels, record, fields, step_tokens or len(labels), step_records or len(ENTROPY))


def run(loss, hidden, weight, tokens, lam=1.0, tile_tokens=4):
    return vocabulary_pass(hidden, Head(weight), [loss], {loss.name: lam}, tokens, torch.float64, tile_tokens)


def cwce(normalise):
    return CWCE(Constant(1.0), normalise, floor=0.30, slope=1.5, midpoint=1.5)


CASES = {
    "ce": (CE(Constant(1.0)), lambda z, y: reference.ce(z, y)),
    "cwce-tokens": (cwce("tokens"), lambda z, y: reference.cwce_tokens(z, y, RECORD, ENTROPY)),
    "cwce-records": (cwce("records"), lambda z, y: reference.cwce_records(z, y, RECORD, ENTROPY)),
}


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradient_equal_the_dense_reference(problem, case):
    loss, dense = CASES[case]
    hidden, weight, labels = problem
    expected = dense(reference.dense_logits(hidden, weight), labels)
    result = run(loss, hidden, weight, supervised(labels), lam=0.7)
    # Entropies are stored in fp32, hence 1e-7 and not 1e-12.
    torch.testing.assert_close(result.total, 0.7 * expected, rtol=1e-7, atol=0)
    ours = torch.autograd.grad(result.total, [hidden, weight])
    theirs = torch.autograd.grad(0.7 * expected, [hidden, weight])
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_gradient_equals_finite_differences(problem, case):
    loss, _ = CASES[case]
    hidden, weight, labels = problem
    tokens = supervised(labels)
    ours = torch.autograd.grad(run(loss, hidden, weight, tokens).total, [hidden, weight])
    with torch.no_grad():
        by_hidden = reference.finite_difference(lambda h: run(loss, h, weight, tokens).total, hidden.detach())
        by_weight = reference.finite_difference(lambda w: run(loss, hidden, w, tokens).total, weight.detach())
    torch.testing.assert_close(ours, (by_hidden, by_weight), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("case", CASES)
def test_micro_batches_add_up_to_the_whole_step(problem, case):
    loss, _ = CASES[case]
    hidden, weight, labels = problem
    whole = run(loss, hidden, weight, supervised(labels))
    total, mean_weight = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for keep in (RECORD == 1, RECORD != 1):  # unequal parts; a record stays whole
        part = SupervisedTokens(labels[keep], RECORD[keep], supervised(labels).fields, len(labels), len(ENTROPY))
        result = run(loss, hidden[keep], weight, part)
        total = total + result.total
        mean_weight += loss.metrics(part, result.values[loss.name], {}).get("mean_weight", mean_weight * 0)
    torch.testing.assert_close(total, whole.total, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(total, [hidden, weight]), torch.autograd.grad(whole.total, [hidden, weight])
    )
    expected = loss.metrics(supervised(labels), whole.values[loss.name], {}).get("mean_weight")
    if expected is not None:
        torch.testing.assert_close(mean_weight, expected)


@pytest.mark.parametrize(
    ("entropy", "weight"),
    [(0, 0.9333), (0.2, 0.913), (0.5, 0.872), (1, 0.775), (1.5, 0.65), (2, 0.525), (3, 0.367), (5, 0.304)],
)
def test_confidence_weight_at_the_cards_points(entropy, weight):
    ours = confidence_weight(torch.tensor(float(entropy)), 0.30, 1.5, 1.5).item()
    assert ours == pytest.approx(weight, abs=5e-4)
    assert ours == pytest.approx(reference.card_weight(entropy), abs=1e-6)


def test_mean_weight_is_the_mean_of_w(problem):
    _, _, labels = problem
    w = [reference.card_weight(h) for h in ENTROPY]
    by_token = sum(w[r] for r in RECORD.tolist()) / len(RECORD)
    tokens, values = supervised(labels), torch.zeros(len(labels))
    assert cwce("tokens").metrics(tokens, values, {})["mean_weight"].item() == pytest.approx(by_token, rel=1e-6)
    assert cwce("records").metrics(tokens, values, {})["mean_weight"].item() == pytest.approx(sum(w) / 3, rel=1e-6)


def test_equal_entropies_make_cwce_a_scaled_ce(problem):
    hidden, weight, labels = problem
    tokens = SupervisedTokens(labels, torch.zeros_like(RECORD), {"output_entropy": torch.tensor([1.5])}, 11, 1)
    ratio = run(cwce("tokens"), hidden, weight, tokens).total / run(CE(Constant(1.0)), hidden, weight, tokens).total
    assert ratio.item() == pytest.approx(0.65, rel=1e-6)


def test_gradient_vanishes_where_the_label_is_certain():
    weight = torch.eye(5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 3, 4])
    hidden = (1000.0 * torch.eye(5, dtype=torch.float64)[labels]).requires_grad_()
    tokens = SupervisedTokens(labels, torch.zeros_like(labels), {}, 3, 1)
    result = run(CE(Constant(1.0)), hidden, weight, tokens)
    gradients = torch.autograd.grad(result.total, [hidden, weight])
    assert result.total.item() == 0.0
    assert all(float(g.abs().max()) == 0.0 for g in gradients)


def test_bad_settings_and_missing_fields_are_named(problem):
    hidden, weight, labels = problem
    with pytest.raises(DanteError, match="tokens or records"):
        cwce("sequences")
    with pytest.raises(DanteError, match="output_entropy"):
        run(cwce("tokens"), hidden, weight, SupervisedTokens(labels, RECORD, {}, 11, 3))
