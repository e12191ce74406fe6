"""Divergences against TRL's, where TRL is right: values and gradients of its chunked loss, at temperature 1 and above.

TRL's loss has no T²: its value is D(p_T ‖ q_T), and its gradient shrinks with 1/T². Ours are T² times both.
"""

import pytest
import torch
from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

from dante.losses.distillation import divergences
from dante.losses.distillation.logits import LogitDistillation
from dante.losses.one_pass import vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.tokens import SupervisedTokens, TeacherSide
from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.projection import Projection
from dante.losses.vocabulary.teacher import HiddenLogits

TOKENS, VOCABULARY, WIDTH, TEACHER_WIDTH = 33, 301, 24, 40


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("beta", [0.0, 0.2, 0.5, 1.0])
def test_the_generalised_jsd_is_trl_s(beta: float, temperature: float) -> None:
    draw = torch.Generator().manual_seed(1)
    hidden, weight, other, other_weight = (
        torch.randn(shape, generator=draw) for shape in
        ((TOKENS, WIDTH), (VOCABULARY, WIDTH), (TOKENS, TEACHER_WIDTH), (VOCABULARY, TEACHER_WIDTH))
    )  # fmt: skip
    weight, other_weight = weight * 0.5, other_weight * 0.5
    hidden.requires_grad_()
    weight.requires_grad_()

    loss = LogitDistillation(Constant(1.0), divergences.JSD(beta), temperature, name="kl")
    labels = torch.zeros(TOKENS, dtype=torch.int64)
    side = TeacherSide(maybe_logits=HiddenLogits(Projection(Head(other_weight), None, torch.float32), other))
    tokens = SupervisedTokens(labels, labels, {}, TOKENS, 1, side)
    result = vocabulary_pass(hidden, Head(weight), [loss], {"kl": 1.0}, tokens, torch.float32, 8)
    ours = torch.autograd.grad(result.total, [hidden, weight])

    values, _ = ChunkedDivergenceFunction.apply(hidden, weight, None, other, other_weight, None, beta, temperature)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(result.values["kl"], temperature**2 * values.detach(), rtol=2e-4, atol=2e-5)
    theirs = torch.autograd.grad(temperature**2 * values.mean(), [hidden, weight])
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-6)
