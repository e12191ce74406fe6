"""A teacher beside the student: its divergence is that of both models run record by record, and nothing else moves."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from dante.errors import DanteError
from dante.losses.ce import CE
from dante.losses.distillation.divergences import JSD, ForwardKL
from dante.losses.distillation.logits import LogitDistillation
from dante.losses.schedule import Constant, Linear
from dante.supervision.live import BesideStudent
from tests.test_module import (
    RECORDS,
    STEPS,
    VOCAB,
    Collect,
    empty_row,
    module,
    row,
    run_steps,
    step_batch,
    student,
    token_gradient,
    token_ids,
)


def teacher(dtype: torch.dtype = torch.float64, vocabulary: int = VOCAB) -> LlamaForCausalLM:
    """Wider and deeper than the student, with dropout that only training mode would apply."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        attention_dropout=0.5,
    )
    model = LlamaForCausalLM(config)
    model.lm_head.weight.data.mul_(40.0)  # sure of something, which random weights are not
    model.to(dtype).config.use_cache = False
    return model.train()  # as from_config leaves it


def distilled(beside: LlamaForCausalLM | None = None, temperature: float = 1.0, divergence=None, **fit):
    loss = LogitDistillation(Constant(1.0), divergence or ForwardKL(), temperature)
    return module(student(), {"kl": loss}, teacher=BesideStudent(beside or teacher()), **fit)


def by_hand(network, beside: LlamaForCausalLM, layout: list[list[int]], temperature: float = 1.0) -> Tensor:
    """Mean of T² KL over the answers' tokens, every record by itself, logits whole."""
    ids, total, count = token_ids(0), torch.zeros((), dtype=torch.float64), 0
    for which in [record for records in layout for record in records]:
        prompt, answer, _ = RECORDS[which]
        places = slice(prompt - 1, prompt + answer - 1)
        with torch.no_grad():
            p = beside(ids[which][None]).logits[0, places]
        q = network.student(ids[which][None]).logits[0, places]
        log_p, log_q = (logits.div(temperature).log_softmax(-1) for logits in (p, q))
        total = total + functional.kl_div(log_q, log_p, log_target=True, reduction="sum") * temperature**2
        count += answer
    return total / count


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_packed_rows_give_the_divergence_of_separate_records(temperature: float) -> None:
    beside = teacher()
    network = distilled(copy.deepcopy(beside), temperature)
    layout = [[0, 1], [2, 4, 3]]
    gradients, metrics = token_gradient(network, step_batch(layout, seed=0, empty=True))
    expected = by_hand(network, beside.eval(), layout, temperature)
    torch.testing.assert_close(metrics["loss"], expected.detach(), rtol=1e-9, atol=0)
    wanted = torch.autograd.grad(expected, list(network.student.parameters()))
    torch.testing.assert_close(gradients, list(wanted), rtol=1e-7, atol=1e-11)
    if temperature == 1.0:
        torch.testing.assert_close(metrics["kl/kl_nats"], metrics["loss/kl"])
    assert 0 <= metrics["kl/agreement"] <= 1


def test_the_teacher_is_frozen_and_no_part_of_what_is_trained() -> None:
    network = distilled()
    before = copy.deepcopy(network.teacher.network.state_dict())
    assert network.state_dict().keys() == module(student(), {"ce": CE(Constant(1.0))}).state_dict().keys()
    assert {id(p) for p in network.parameters()}.isdisjoint(id(p) for p in network.teacher.network.parameters())
    collect = Collect()
    run_steps(network, [step_batch([[0, 1], [2, 3, 4]], step) for step in range(STEPS)], [collect])
    for name, value in network.teacher.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in network.teacher.network.parameters())
    assert not network.teacher.network.training
    assert collect.rows[-1]["loss"] < collect.rows[0]["loss"]


def test_a_copy_of_the_teacher_has_nothing_to_learn() -> None:
    model = student()
    copied = copy.deepcopy(model)
    loss = LogitDistillation(Constant(1.0), JSD(0.4), 2.0)
    network = module(model, {"kl": loss}, teacher=BesideStudent(copied))
    gradients, metrics = token_gradient(network, step_batch([[0, 1], [2]], seed=0))
    assert abs(metrics["loss"]) < 1e-15
    assert max(gradient.abs().max() for gradient in gradients) < 1e-15
    assert metrics["kl/agreement"] == pytest.approx(1.0)


def test_a_divergence_and_cross_entropy_are_mixed_by_their_schedules() -> None:
    losses = {"kl": LogitDistillation(Linear(1.0, 0.0), ForwardKL(), 1.0), "ce": CE(Linear(0.0, 1.0))}
    network = module(student(), losses, teacher=BesideStudent(teacher()))
    batch = step_batch([[0, 3]], step=3, seed=0)
    gradients, metrics = token_gradient(network, batch)
    share = 3 / STEPS
    parts = []
    for name in losses:
        alone = module(student(), {name: copy.deepcopy(losses[name])}, teacher=BesideStudent(teacher()))
        alone.pass_losses[0].weight = Constant(1.0)
        parts.append(token_gradient(alone, batch)[0])
    for mixed, kl, ce in zip(gradients, *parts, strict=True):
        torch.testing.assert_close(mixed, (1 - share) * kl + share * ce, rtol=1e-4, atol=1e-7)  # norms round in fp32
    assert metrics["loss"] == pytest.approx(
        float((1 - share) * metrics["loss/kl"] + share * metrics["loss/ce"]), rel=1e-12
    )


class Largest(TorchDispatchMode):
    """The largest tensor that any operation gives back, parameters' gradients aside."""

    def __init__(self, allowed: set[tuple[int, ...]]) -> None:
        super().__init__()
        self.allowed, self.entries, self.shape = allowed, 0, ()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, Tensor) and tuple(value.shape) not in self.allowed and value.numel() > self.entries:
                self.entries, self.shape = value.numel(), tuple(value.shape)
        return out


def test_no_logits_are_ever_whole_on_either_side() -> None:
    """Twelve tokens in tiles of two: nothing has as many entries as a quarter of [tokens, vocabulary]."""
    vocabulary, tile = 4096, 2
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    loss = LogitDistillation(Constant(1.0), ForwardKL(), 2.0)
    beside = BesideStudent(teacher(torch.float32, vocabulary))
    network = module(LlamaForCausalLM(config).float(), {"kl": loss}, teacher=beside, tile_tokens=tile)
    batch = step_batch([[0, 1]], seed=0)
    tokens = batch.supervised_tokens
    weights = {(vocabulary, 8), (8, vocabulary), (vocabulary, 24), (24, vocabulary)}
    with Largest(weights) as largest:
        token_gradient(network, batch)
    assert tokens == 13
    assert largest.entries <= tile * vocabulary < tokens * vocabulary / 4, largest.shape


def test_an_empty_row_costs_nothing_and_adds_nothing() -> None:
    network = distilled()
    with_empty, _ = token_gradient(network, step_batch([[0]], seed=0, empty=True))
    without, _ = token_gradient(network, step_batch([[0]], seed=0))
    torch.testing.assert_close(with_empty, without, rtol=0, atol=0)
    assert network.teacher.logits(empty_row(), []).hidden.shape == (0, 24)


def test_the_teacher_s_dtype_is_its_own() -> None:
    """A bf16 teacher beside an fp32 student: its numbers, up to bf16's rounding."""
    network = module(student(torch.float32), {"kl": LogitDistillation(Constant(1.0), ForwardKL(), 1.0)},
                     teacher=BesideStudent(teacher(torch.bfloat16)))  # fmt: skip
    exact = module(student(torch.float32), {"kl": LogitDistillation(Constant(1.0), ForwardKL(), 1.0)},
                   teacher=BesideStudent(teacher(torch.float32)))  # fmt: skip
    batch = step_batch([[0, 1, 2]], seed=0)
    _, rounded = token_gradient(network, batch)
    _, true = token_gradient(exact, batch)
    assert network.teacher.logits(row([0], token_ids(0)), []).hidden.dtype == torch.bfloat16
    assert float(rounded["loss"]) == pytest.approx(float(true["loss"]), rel=0.05)
    assert math.isfinite(float(rounded["loss"]))


def test_a_teacher_on_a_device_of_its_own_says_the_same() -> None:
    """Its backbone reads a copy of the row there; its head stays beside the student."""
    here, there = BesideStudent(teacher()), BesideStudent(teacher(), device="cpu")
    there.place(torch.device("cpu"), None)
    batch = row([0, 2, 1], token_ids(0))
    one, other = here.logits(batch, []), there.logits(batch, [])
    torch.testing.assert_close(one.hidden, other.hidden, rtol=0, atol=0)
    out = [torch.empty(3, VOCAB, dtype=torch.float64) for _ in range(2)]
    one.write(slice(2, 5), out[0])
    other.write(slice(2, 5), out[1])
    assert torch.equal(*out)


def test_a_head_that_the_pass_does_not_reproduce_is_refused() -> None:
    beside = teacher()
    plain_forward = beside.lm_head.forward
    beside.lm_head.forward = lambda hidden: plain_forward(hidden) * 2.0
    with pytest.raises(DanteError, match="logits"):
        BesideStudent(beside)
