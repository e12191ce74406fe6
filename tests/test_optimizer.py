"""Learning rate, parameter groups, clipping."""

import math

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from dante.errors import DanteError
from dante.fit.optimizer import (
    OptimizerSettings,
    apply_update,
    build_optimizer,
    clip_divisor,
    learning_rate,
    parameter_groups,
)
from dante.losses.shards import total_norm


def settings(**changes):
    values = {
        "steps": 2000,
        "lr": 2e-5,
        "min_lr_ratio": 0.0,
        "warmup": 0.1,
        "betas": (0.9, 0.95),
        "eps": 1e-8,
        "weight_decay": 0.1,
        "clip": 1.0,
        "clip_scope": "per_loss",
        "decay": "matrices",
    }
    return OptimizerSettings(**{**values, **changes})


def tiny_llama(tied=True, bias=False):
    config = LlamaConfig(
        vocab_size=31,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
        attention_bias=bias,
    )
    return LlamaForCausalLM(config)


@pytest.mark.parametrize(("step", "share"), [(0, 1 / 200), (99, 0.5), (199, 1.0), (200, 1.0), (1100, 0.5), (2000, 0.0)])
def test_learning_rate_at_named_points(step, share):
    assert learning_rate(step, settings()) == pytest.approx(2e-5 * share, abs=1e-18)


def test_learning_rate_ends_at_the_floor_and_stays_there():
    s = settings(min_lr_ratio=0.2)
    assert learning_rate(2000, s) == learning_rate(5000, s) == pytest.approx(0.2 * 2e-5)
    assert learning_rate(1100, s) == pytest.approx(0.6 * 2e-5)


def test_learning_rate_without_warmup_and_of_a_single_step():
    assert learning_rate(0, settings(warmup=0.0)) == 2e-5
    assert learning_rate(0, settings(warmup=0.0, steps=1)) == 2e-5
    assert 0 < learning_rate(1, settings(warmup=1.0, steps=2)) <= 2e-5


def names_by_decay(model, decay):
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, settings(decay=decay))
    return {group["weight_decay"]: {names[id(p)] for p in group["params"]} for group in groups}


def test_matrices_decay_and_embeddings_norms_biases_do_not():
    groups = names_by_decay(tiny_llama(bias=True), "matrices")
    assert all(".self_attn." in n or ".mlp." in n for n in groups[0.1])
    assert all(n.endswith(".weight") for n in groups[0.1])
    assert "model.embed_tokens.weight" in groups[0.0]
    assert "model.norm.weight" in groups[0.0]
    assert "model.layers.0.self_attn.q_proj.bias" in groups[0.0]
    assert "lm_head.weight" in names_by_decay(tiny_llama(tied=False), "matrices")[0.1]


def test_decay_all_and_frozen_parameters():
    model = tiny_llama()
    model.model.norm.weight.requires_grad_(False)
    groups = names_by_decay(model, "all")
    assert set(groups) == {0.1}
    assert groups[0.1] == {n for n, p in model.named_parameters() if p.requires_grad}


def test_weight_decay_moves_matrices_only():
    model = tiny_llama()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = build_optimizer(model, settings(lr=0.5))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        factor = 1 - 0.5 * 0.1 if "proj" in name else 1.0
        torch.testing.assert_close(p.detach(), before[name] * factor)


def test_total_norm_and_clip():
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]], dtype=torch.float64), torch.zeros(0)]
    norm = total_norm(gradients)
    assert norm.item() == pytest.approx(5.0)
    assert clip_divisor(norm, limit=10.0).item() == 1.0
    assert clip_divisor(norm, limit=1.0).item() == pytest.approx(5.0)
    assert float(total_norm([])) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_an_update_divides_gradients_and_one_that_is_not_applied_leaves_no_trace(dtype):
    def updated(*steps):
        """Steps are (gradient, divisor, applied)."""
        model = nn.Linear(4, 3).to(dtype)
        with torch.no_grad():
            model.weight.fill_(0.5)
            model.bias.fill_(0.5)
        optimizer = build_optimizer(model, settings(lr=0.1))
        for gradient, divisor, applied in steps:
            for p in model.parameters():
                p.grad = torch.full_like(p, gradient)
            apply_update(optimizer, torch.tensor(divisor), torch.tensor(applied))
        state = [v for p in model.parameters() for v in optimizer.state[p].values()]
        return [model.weight.detach(), model.bias.detach(), *state]

    for a, b in zip(
        updated((8.0, 4.0, True), (1.0, 1.0, True)), updated((2.0, 1.0, True), (1.0, 1.0, True)), strict=True
    ):
        assert torch.equal(a, b)
    skipped = updated((2.0, 1.0, True), (float("nan"), float("nan"), False), (1.0, 1.0, True))
    for a, b in zip(skipped, updated((2.0, 1.0, True), (1.0, 1.0, True)), strict=True):
        assert torch.equal(a, b)


def test_norm_of_bf16_gradients_is_accumulated_in_fp32():
    gradient = torch.full((100_000,), 1e-3, dtype=torch.bfloat16)
    exact = float(gradient[0]) * math.sqrt(100_000)
    assert float(total_norm([gradient, gradient])) == pytest.approx(exact * math.sqrt(2), rel=5e-4)


@pytest.mark.parametrize("wrong", [{"clip_scope": "each"}, {"decay": "some"}])
def test_unknown_choice_names_the_allowed_ones(wrong):
    with pytest.raises(DanteError, match="Allowed"):
        settings(**wrong)
