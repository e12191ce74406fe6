"""All experts on every token: the same model, where it pays, and transformers' own way elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from dante.models.cpu import suit_cpu
from dante.models.moe.every_expert import NAME, every_expert
from tests.tiny_mixtures import KINDS, difference, logits, tiny_mixture, tokens

HALF = set(KINDS) - {"glm4_moe", "deepseek_v3", "gpt_oss"}  # these choose fewer, or have biases


def implementation(model: Any) -> str:
    return model.config.get_text_config(decoder=True)._experts_implementation


def answer(model: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits of some tokens, and gradients of their squares."""
    model.zero_grad()
    found = model(input_ids=tokens()).logits
    found.square().mean().backward()
    return found.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_model(kind: str) -> None:
    model = tiny_mixture(kind)
    before, gradients = answer(model)
    suit_cpu(model)
    assert (implementation(model) == NAME) == (kind in HALF)
    after, same_gradients = answer(model)
    assert difference(after, before) < 1e-5
    assert gradients.keys() == same_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(same_gradients[name], gradient, rtol=1e-4, atol=1e-6)


def test_only_where_it_pays() -> None:
    few = tiny_mixture("qwen3_moe", num_experts_per_tok=2)
    suit_cpu(few)
    assert implementation(few) != NAME


def test_experts_that_were_not_chosen_say_nothing() -> None:
    model: Any = tiny_mixture("mixtral")
    experts = next(module for module in model.modules() if hasattr(module, "gate_up_proj"))
    x, chosen, weights = torch.randn(5, 32), torch.tensor([[0, 4]] * 5), torch.rand(5, 2)
    before = every_expert(experts, x, chosen, weights)
    with torch.no_grad():
        experts.gate_up_proj[1] = 100.0
    assert torch.equal(every_expert(experts, x, chosen, weights), before)
    with torch.no_grad():
        experts.gate_up_proj[4] = 1.0
    assert not torch.equal(every_expert(experts, x, chosen, weights), before)


def test_a_saved_model_does_not_carry_it(tmp_path: Path) -> None:
    model = tiny_mixture("mixtral")
    suit_cpu(model)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "mixtral"
    assert difference(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(model)) < 1e-5
