"""Losses against the teacher's distribution: values and gradients of the vocabulary pass against float64 references."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dante.errors import DanteError
from dante.losses.base import LinearLoss
from dante.losses.distillation import divergences
from dante.losses.distillation.divergences import Divergence
from dante.losses.distillation.logits import LogitDistillation
from dante.losses.distillation.random_sampling import RandomSampling
from dante.losses.distillation.topk_renormalised import TopKRenormalised
from dante.losses.distillation.topk_tail import TopKTail
from dante.losses.one_pass import PassResult, vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.tokens import SparseTargets, SupervisedTokens, TeacherSide
from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.projection import Projection
from dante.losses.vocabulary.teacher import AveragedLogits, ChosenLogits, HiddenLogits
from tests import reference_divergences as reference

TOKENS, VOCABULARY, WIDTH, TEACHER_WIDTH = 9, 17, 5, 7
ALONE: dict[str, tuple[Divergence, Callable[..., Any], dict[str, float]]] = {
    "forward": (divergences.ForwardKL(), reference.forward_kl, {}),
    "reverse": (divergences.ReverseKL(), reference.reverse_kl, {}),
    "jsd-0": (divergences.JSD(0.0), reference.forward_kl, {}),
    "jsd-0.1": (divergences.JSD(0.1), reference.jsd, {"beta": 0.1}),
    "jsd-0.5": (divergences.JSD(0.5), reference.jsd, {"beta": 0.5}),
    "jsd-1": (divergences.JSD(1.0), reference.reverse_kl, {}),
    "skew": (divergences.SkewKL(0.1), reference.skew_kl, {"lam": 0.1}),
    "skew-0": (divergences.SkewKL(0.0), reference.forward_kl, {}),
    "skew reverse": (divergences.SkewReverseKL(0.1), reference.skew_reverse_kl, {"lam": 0.1}),
    "skew reverse-0": (divergences.SkewReverseKL(0.0), reference.reverse_kl, {}),
    "adaptive": (divergences.AdaptiveKL(0.5), reference.adaptive_kl, {"mu": 0.5}),
    "total variation": (divergences.TotalVariation(), reference.total_variation, {}),
}


class Problem:
    """A student's and a teacher's hidden states and heads, in float64."""

    def __init__(self, teacher_rows: int = VOCABULARY, student_rows: int = VOCABULARY, spread: float = 1.0) -> None:
        draw = torch.Generator().manual_seed(5)
        numbers = {"generator": draw, "dtype": torch.float64}
        self.hidden = torch.randn(TOKENS, WIDTH, **numbers).requires_grad_()  # type: ignore[call-overload]
        self.weight = torch.randn(student_rows, WIDTH, **numbers).mul_(spread).requires_grad_()  # type: ignore[call-overload]
        self.teacher_hidden = torch.randn(TOKENS, TEACHER_WIDTH, **numbers)  # type: ignore[call-overload]
        self.teacher_weight = torch.randn(teacher_rows, TEACHER_WIDTH, **numbers).mul_(spread)  # type: ignore[call-overload]
        self.labels = torch.randint(0, min(teacher_rows, student_rows), (TOKENS,), generator=draw)

    def live(self) -> HiddenLogits:
        return live(self.teacher_hidden, self.teacher_weight)

    @property
    def student_logits(self) -> np.ndarray:
        return (self.hidden @ self.weight.T).detach().numpy()

    @property
    def teacher_logits(self) -> np.ndarray:
        return (self.teacher_hidden @ self.teacher_weight.T).numpy()

    def run(self, loss: LinearLoss, side: TeacherSide, tile_tokens: int = 4, lam: float = 1.0) -> PassResult:
        return passed(loss, self.hidden, self.weight, self.labels, side, tile_tokens, lam)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp([reference.log_softmax(row) for row in logits])


def live(hidden: Tensor, weight: Tensor) -> HiddenLogits:
    return HiddenLogits(Projection(Head(weight), None, hidden.dtype), hidden)


def passed(
    loss: LinearLoss,
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    side: TeacherSide,
    tile_tokens: int,
    lam: float = 1.0,
) -> PassResult:
    record = torch.zeros(len(labels), dtype=torch.int64)
    tokens = SupervisedTokens(labels, record, {}, len(labels), 1, side)
    return vocabulary_pass(hidden, Head(weight), [loss], {loss.name: lam}, tokens, hidden.dtype, tile_tokens)


def distillation(divergence: Divergence, temperature: float = 1.0) -> LogitDistillation:
    return LogitDistillation(Constant(1.0), divergence, temperature, name="kl")


def through_head(gradient: np.ndarray, problem: Problem) -> tuple[Tensor, Tensor]:
    """Gradient of the mean over tokens with respect to hidden states and head, from that of the logits."""
    logits_gradient = torch.from_numpy(gradient) / TOKENS
    return logits_gradient @ problem.weight.detach(), logits_gradient.T @ problem.hidden.detach()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("case", ALONE)
def test_value_and_gradient_are_the_reference_s(case: str, temperature: float) -> None:
    divergence, dense, settings = ALONE[case]
    problem = Problem()
    t, s = problem.teacher_logits, problem.student_logits
    result = problem.run(distillation(divergence, temperature), TeacherSide(maybe_logits=problem.live()), lam=0.7)
    values = dense(t, s, tau=temperature, **settings)
    np.testing.assert_allclose(result.values["kl"].numpy(), values, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.total.item(), 0.7 * values.mean(), rtol=1e-9)
    np.testing.assert_allclose(result.kept["kl"]["kl"].numpy(), reference.forward_kl(t, s), rtol=1e-9)
    ours = torch.autograd.grad(result.total, [problem.hidden, problem.weight])
    expected = through_head(0.7 * dense(t, s, tau=temperature, gradient=True, **settings), problem)
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("case", [case for case in ALONE if case != "adaptive"])  # its weights have no gradient
def test_the_gradient_is_the_value_s_by_finite_differences(case: str, temperature: float) -> None:
    loss = distillation(ALONE[case][0], temperature)
    problem = Problem()
    side = TeacherSide(maybe_logits=problem.live())
    (ours,) = torch.autograd.grad(problem.run(loss, side).total, [problem.hidden])

    def value(hidden: Tensor) -> float:
        with torch.no_grad():
            return passed(loss, hidden, problem.weight, problem.labels, side, 4).total.item()

    step, quotient = 1e-6, torch.zeros_like(problem.hidden)
    for at in np.ndindex(TOKENS, WIDTH):
        nudge = torch.zeros_like(problem.hidden)
        nudge[at] = step
        quotient[at] = (value(problem.hidden + nudge) - value(problem.hidden - nudge)) / (2 * step)
    torch.testing.assert_close(ours, quotient, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("case", ALONE)
def test_a_student_that_is_its_teacher_has_no_loss_and_no_gradient(case: str) -> None:
    """In fp32, to the bit: nothing moves a student that is there already."""
    hidden, weight = torch.randn(TOKENS, WIDTH).requires_grad_(), torch.randn(VOCABULARY, WIDTH).requires_grad_()
    side = TeacherSide(maybe_logits=live(hidden.detach(), weight.detach()))
    labels = torch.zeros(TOKENS, dtype=torch.int64)
    result = passed(distillation(ALONE[case][0], 2.0), hidden, weight, labels, side, 4)
    np.testing.assert_allclose(result.values["kl"].numpy(), 0.0, atol=1e-6)
    for gradient in torch.autograd.grad(result.total, [hidden, weight]):
        np.testing.assert_allclose(gradient.numpy(), 0.0, atol=1e-6)
    assert result.kept["kl"]["agrees"].min() == 1.0


@pytest.mark.parametrize("tile_tokens", [1, 3, 64])
def test_tiles_change_nothing(tile_tokens: int) -> None:
    problem = Problem()
    whole, tiled = (
        problem.run(distillation(divergences.JSD(0.3), 2.0), TeacherSide(maybe_logits=problem.live()), tile)
        for tile in (TOKENS, tile_tokens)
    )
    torch.testing.assert_close(tiled.total, whole.total, rtol=1e-12, atol=0)
    ours, theirs = (torch.autograd.grad(r.total, [problem.hidden, problem.weight]) for r in (tiled, whole))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(("teacher_rows", "student_rows"), [(VOCABULARY + 4, VOCABULARY), (VOCABULARY, VOCABULARY + 4)])
@pytest.mark.parametrize("case", ["forward", "reverse", "jsd-0.5", "adaptive"])
def test_padding_rows_of_either_head_count_for_nothing(case: str, teacher_rows: int, student_rows: int) -> None:
    """As if both heads had the tokens alone; and no gradient reaches the padding."""
    divergence, dense, settings = ALONE[case]
    problem = Problem(teacher_rows, student_rows)
    result = problem.run(distillation(divergence, 2.0), TeacherSide(maybe_logits=problem.live()))
    t, s = problem.teacher_logits[:, :VOCABULARY], problem.student_logits[:, :VOCABULARY]
    np.testing.assert_allclose(result.values["kl"].numpy(), dense(t, s, tau=2.0, **settings), rtol=1e-9)
    gradient = np.zeros((TOKENS, student_rows))
    gradient[:, :VOCABULARY] = dense(t, s, tau=2.0, gradient=True, **settings)
    ours = torch.autograd.grad(result.total, [problem.hidden, problem.weight])
    torch.testing.assert_close(ours, through_head(gradient, problem), rtol=1e-8, atol=1e-12)
    assert not ours[1][VOCABULARY:].any()


def test_several_teachers_by_token_and_their_average() -> None:
    problem = Problem()
    draw = torch.Generator().manual_seed(9)
    other_weight = torch.randn(VOCABULARY, TEACHER_WIDTH, generator=draw, dtype=torch.float64)
    one, other = problem.live(), live(problem.teacher_hidden, other_weight)
    t_one, t_other = problem.teacher_logits, (problem.teacher_hidden @ other_weight.T).numpy()
    loss = distillation(divergences.ForwardKL())

    average = AveragedLogits([one, other], [3.0, 1.0])
    p = 0.75 * softmax(t_one) + 0.25 * softmax(t_other)
    found = problem.run(loss, TeacherSide(maybe_logits=average)).values["kl"].numpy()
    np.testing.assert_allclose(found, reference.forward_kl(np.log(p), problem.student_logits), rtol=1e-9)

    chosen = torch.tensor([0, 1, 1, 0, 0, 1, 0, 0, 1])
    parts = [live(problem.teacher_hidden[chosen == k], w) for k, w in enumerate((problem.teacher_weight, other_weight))]
    places = torch.zeros_like(chosen)
    for k in (0, 1):
        places[chosen == k] = torch.arange(int((chosen == k).sum()))
    by_token = ChosenLogits(parts, places, chosen)
    found = problem.run(loss, TeacherSide(maybe_logits=by_token)).values["kl"].numpy()
    t_chosen = np.where(chosen.numpy()[:, None] == 0, t_one, t_other)
    np.testing.assert_allclose(found, reference.forward_kl(t_chosen, problem.student_logits), rtol=1e-9)


def targets(problem: Problem, kept: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The teacher's largest probabilities, their ids, and the rest; the last token keeps two fewer."""
    p = softmax(problem.teacher_logits)
    ids = np.argsort(-p, axis=1)[:, :kept]
    probabilities = np.take_along_axis(p, ids, axis=1)
    if kept < VOCABULARY:
        ids[-1, -2:], probabilities[-1, -2:] = -1, 0.0
    tail = 1.0 - probabilities.sum(1) if kept < VOCABULARY else np.zeros(TOKENS)
    return ids, probabilities, tail


def side_of(ids: np.ndarray, probabilities: np.ndarray, tail: np.ndarray) -> TeacherSide:
    return TeacherSide(SparseTargets(*(torch.from_numpy(a) for a in (ids.astype(np.int64), probabilities, tail))))


SPARSE: dict[str, tuple[LinearLoss, Callable[..., Any]]] = {
    "tail": (TopKTail(Constant(1.0), name="kl"), lambda i, p, r, s, **more: reference.topk_tail(i, p, r, s, **more)),
    "renormalised": (
        TopKRenormalised(Constant(1.0), name="kl"),
        lambda i, p, r, s, **more: reference.topk_renormalised(i, p, s, **more),
    ),
}


@pytest.mark.parametrize("kept", [1, 4, VOCABULARY])
@pytest.mark.parametrize("case", SPARSE)
def test_losses_on_kept_logits_are_the_references(case: str, kept: int) -> None:
    loss, dense = SPARSE[case]
    problem = Problem()
    kept = max(kept, 3)
    ids, probabilities, tail = targets(problem, kept)
    result = problem.run(loss, side_of(ids, probabilities, tail))
    s = problem.student_logits
    np.testing.assert_allclose(result.values["kl"].numpy(), dense(ids, probabilities, tail, s), rtol=1e-6, atol=1e-9)
    ours = torch.autograd.grad(result.total, [problem.hidden, problem.weight])
    expected = through_head(dense(ids, probabilities, tail, s, gradient=True), problem)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-9)


def test_the_tail_bucket_is_a_lower_bound_and_the_whole_divergence_at_k_equal_v() -> None:
    problem = Problem()
    full = reference.forward_kl(problem.teacher_logits, problem.student_logits)
    loss = SPARSE["tail"][0]
    for kept in (3, 6, 12):
        assert (problem.run(loss, side_of(*targets(problem, kept))).values["kl"].numpy() <= full + 1e-12).all()
    whole = problem.run(loss, side_of(*targets(problem, VOCABULARY)))
    np.testing.assert_allclose(whole.values["kl"].numpy(), full, rtol=1e-9)
    live_result = problem.run(distillation(divergences.ForwardKL()), TeacherSide(maybe_logits=problem.live()))
    ours, theirs = (torch.autograd.grad(r.total, [problem.hidden, problem.weight]) for r in (whole, live_result))
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


def test_only_the_tail_bucket_holds_what_lies_outside_the_kept_tokens() -> None:
    """The head is the identity, so that the gradient of the hidden states is that of the logits."""
    problem = Problem()
    ids, probabilities, tail = targets(problem, 4)
    outside = np.ones((TOKENS, VOCABULARY), dtype=bool)
    for row in range(TOKENS):
        outside[row, ids[row][ids[row] >= 0]] = False
    logits = torch.from_numpy(problem.student_logits).requires_grad_()
    found = {}
    for name, (loss, _) in SPARSE.items():
        eye = torch.eye(VOCABULARY, dtype=torch.float64)
        result = passed(loss, logits, eye, problem.labels, side_of(ids, probabilities, tail), 4)
        (gradient,) = torch.autograd.grad(result.total, [logits])
        found[name] = gradient.numpy()[outside]
    assert not found["renormalised"].any()
    assert np.abs(found["tail"]).min() > 0


def test_drawn_tokens_give_the_forward_kl_s_gradient_on_average() -> None:
    problem = Problem(spread=0.5)
    p = softmax(problem.teacher_logits)
    rng = np.random.default_rng(0)
    loss = RandomSampling(Constant(1.0), name="kl")
    copies, rounds, gradients = 250, 6, []
    hidden = problem.hidden.detach().repeat(copies, 1).requires_grad_()
    labels = problem.labels.repeat(copies)
    s = problem.student_logits
    for _ in range(rounds):
        shares = rng.multinomial(50, np.tile(p, (copies, 1))) / 50
        ids = np.tile(np.arange(VOCABULARY), (len(shares), 1))
        ids[shares == 0] = -1
        result = passed(loss, hidden, problem.weight, labels, side_of(ids, shares, np.zeros(len(shares))), 512)
        (gradient,) = torch.autograd.grad(result.total, [hidden])
        gradients.append(gradient.numpy().reshape(copies, TOKENS, WIDTH) * copies)
    by_hand = reference.random_sampling(ids[:TOKENS], shares[:TOKENS], s)
    entropy = -np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1.0)), 0.0).sum(1)[:TOKENS]
    np.testing.assert_allclose(result.values["kl"].numpy()[:TOKENS], by_hand + entropy, rtol=1e-9)
    expected, _ = through_head(reference.random_sampling(ids[:TOKENS], shares[:TOKENS], s, gradient=True), problem)
    np.testing.assert_allclose(gradients[-1][0], expected.numpy(), rtol=1e-9, atol=1e-12)
    full, _ = through_head(reference.forward_kl(problem.teacher_logits, s, gradient=True), problem)
    each = np.concatenate(gradients)
    error = each.std(axis=0) / np.sqrt(len(each))
    assert (np.abs(each.mean(axis=0) - full.numpy()) < 5 * error).all()
    assert (error < 0.1 * np.abs(full.numpy()).max()).all()  # narrow enough to see a bias


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: distillation(divergences.ForwardKL(), 0.0), "temperature is 0"),
        (lambda: divergences.JSD(1.5), "beta is 1.5"),
        (lambda: divergences.SkewKL(1.0), "skew is 1"),
        (lambda: divergences.SkewReverseKL(-0.1), "skew is -0.1"),
        (lambda: divergences.AdaptiveKL(0.0), "head is 0"),
    ],
)
def test_numbers_outside_their_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(DanteError, match=message):
        make()
