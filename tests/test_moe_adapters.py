"""Every architecture's sparse block from its parts, joined into one unit, and stored in stock classes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from dante.errors import DanteError
from dante.models.moe.adapter import Adapter, SparseBlock
from dante.models.moe.glu import Activation, Glu, concatenate
from dante.models.moe.registry import ADAPTERS, adapter_for
from dante.students.dense_form import as_dense, as_stored, decoder_layers, stored_dense, units
from tests.tiny_mixtures import HIDDEN, KINDS, difference, logits, tiny_mixture


def opened(kind: str, dtype: torch.dtype = torch.float32, **changes: Any) -> tuple[Adapter, torch.nn.Module]:
    """The adapter, and the last sparse layer of a tiny model."""
    model, adapter = tiny_mixture(kind, **changes).to(dtype), ADAPTERS[kind]
    return adapter, decoder_layers(model)[adapter.sparse_layers(model.config)[-1]]


def router_of(kind: str, layer: torch.nn.Module) -> Any:
    """The stock router of a sparse layer, wherever the architecture has it."""
    block: Any = layer.get_submodule("block_sparse_moe" if kind == "granitemoeshared" else "mlp")
    return getattr(block, "gate", None) or block.router


def inputs(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(50, HIDDEN, generator=torch.Generator().manual_seed(2)).to(dtype)


@torch.no_grad()
def stock(adapter: Adapter, layer: torch.nn.Module, x_TD: Tensor) -> Tensor:
    outputs = [adapter.output(part(x_TD[None])) for part in adapter.parts(layer)]
    return torch.stack(outputs).sum(0)[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_parts_make_the_stock_block(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    adapter, layer = opened(kind, dtype)
    x_TD = inputs(dtype)
    assert difference(adapter.block(layer)(x_TD).float(), stock(adapter, layer, x_TD).float()) < tolerance


@pytest.mark.parametrize("kind", KINDS)
def test_the_router_in_bf16_is_the_stock_one(kind: str) -> None:
    """Choices and weights to the bit: a router run in another dtype than the block's chooses other experts."""
    adapter, layer = opened(kind, torch.bfloat16)
    x_TD = inputs(torch.bfloat16)
    seen: list[Any] = []
    router = router_of(kind, layer)
    with torch.no_grad():
        hook = router.register_forward_hook(lambda _, __, output: seen.append(output))
        stock(adapter, layer, x_TD)
        hook.remove()
        routing = adapter.block(layer).route(x_TD)
    experts = next(part for part in seen[0] if not part.is_floating_point())
    assert torch.equal(routing.experts, experts)


def constant_routing(kind: str, chosen: list[int]) -> tuple[Adapter, torch.nn.Module]:
    """A layer whose router chooses the same experts for every token, with equal weights."""
    changes: dict[str, Any] = {"num_experts_per_tok": len(chosen)}
    if kind in ("glm4_moe", "deepseek_v3"):
        changes |= {"n_group": 1, "topk_group": 1}
    if kind in ("qwen3_moe", "olmoe"):
        changes |= {"norm_topk_prob": True}
    adapter, layer = opened(kind, **changes)
    router = router_of(kind, layer)
    with torch.no_grad():
        for tensor in (*router.parameters(), *router.buffers()):
            tensor.zero_()
        by_bias = {"laguna", "glm4_moe", "deepseek_v3"}
        if kind in by_bias:
            router.e_score_correction_bias[chosen] = 5.0
        elif kind == "gpt_oss":
            router.bias[chosen] = 20.0
        else:  # one input is constant, and rows of chosen experts look at it
            router.weight[chosen, 0] = 20.0
    return adapter, layer


def joined(block: SparseBlock, chosen: list[int]) -> Glu:
    routed = [block.expert(number).scaled(block.scaling / len(chosen)) for number in chosen]
    return concatenate([unit for unit in (block.shared, *routed) if unit is not None])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", ["all", "some"])
def test_constant_routing_is_one_unit(kind: str, share: str) -> None:
    experts = 8 if kind in ("glm4_moe", "deepseek_v3") else 6
    chosen = list(range(experts)) if share == "all" else [1, 2, 4]
    adapter, layer = constant_routing(kind, chosen)
    x_TD = inputs()
    x_TD[:, 0] = 1.0
    assert difference(joined(adapter.block(layer), chosen)(x_TD), stock(adapter, layer, x_TD)) < 1e-5


def dense_student(kind: str, size: int) -> PreTrainedModel:
    """A dense student of a tiny mixture: in every sparse block's place a random unit."""
    model, adapter = tiny_mixture(kind), ADAPTERS[kind]
    generator = torch.Generator().manual_seed(3)
    biased = kind == "gpt_oss"

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    activation = Activation("gpt_oss", 1.702, 7.0) if biased else Activation("silu")
    for number in adapter.sparse_layers(model.config):
        biases = (drawn(size), drawn(size), drawn(HIDDEN)) if biased else ()
        unit = Glu(drawn(size, HIDDEN), drawn(size, HIDDEN), drawn(HIDDEN, size), activation, *biases)
        adapter.install(decoder_layers(model)[number], unit)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [48, 65])  # 65: the last rows are zeros
def test_the_stored_student_gives_the_same_logits(kind: str, size: int, tmp_path: Path) -> None:
    model = dense_student(kind, size)
    want = logits(model)
    as_stored(model, "unpadded").save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert stored_dense(loaded.config) is not None
    assert difference(logits(loaded), want) < 1e-5
    trained = as_dense(loaded)
    assert sorted(units(trained)) == ADAPTERS[kind].sparse_layers(tiny_mixture(kind).config)
    assert difference(logits(trained), want) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_padded_student_gives_the_same_logits(kind: str, tmp_path: Path) -> None:
    model = dense_student(kind, 48)
    if kind not in ("laguna", "glm4_moe", "qwen3_moe", "deepseek_v3"):
        with pytest.raises(DanteError, match="has no dense layers") as caught:
            as_stored(model, "padded")
        assert "steps.release-padded=null" in str(caught.value.fix)
        return
    want = logits(model)
    as_stored(model, "padded").save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert loaded.config.intermediate_size == 80
    assert difference(logits(loaded), want) < 1e-5
    assert stored_dense(loaded.config) is None


def test_units_wider_than_the_dense_layers_widen_those(tmp_path: Path) -> None:
    model = dense_student("laguna", 100)
    stored = as_stored(model, "padded")
    assert stored.config.intermediate_size == 100
    assert difference(logits(stored), logits(model)) < 1e-5


def test_a_mixture_stays_a_mixture() -> None:
    model = tiny_mixture("laguna")
    assert stored_dense(model.config) is None
    assert units(as_dense(model)) == {}
    assert as_stored(model, "padded") is model


def test_halves_that_a_router_weighs_are_refused() -> None:
    model = as_stored(dense_student("glm4_moe", 48), "unpadded")
    torch.nn.init.normal_(decoder_layers(model)[1].mlp.gate.weight)
    with pytest.raises(DanteError, match="weighs them differently"):
        as_dense(model)


def test_an_architecture_without_adapter_says_what_one_needs() -> None:
    with pytest.raises(DanteError, match="sparse blocks of a llama") as caught:
        adapter_for(LlamaConfig(), "student.source")
    assert "glm4_moe" in str(caught.value.allowed)
    assert "scaling" in str(caught.value.fix)


def test_entries_of_zeros_stay_zeros_in_training() -> None:
    """Gate, up and down of a padded entry have gradients of exactly zero: a padded release can be trained on."""
    for activation in (Activation("silu"), Activation("gpt_oss", 1.702, 7.0)):
        generator = torch.Generator().manual_seed(4)
        parts = [torch.randn(shape, generator=generator) for shape in ((5, HIDDEN), (5, HIDDEN), (HIDDEN, 5))]
        unit = Glu(*parts, activation).padded(8)
        tensors = [tensor.detach().requires_grad_() for tensor in (unit.gate, unit.up, unit.down)]
        Glu(*tensors, activation)(inputs()).square().sum().backward()
        gradients = [tensor.grad for tensor in tensors]
        assert all(gradient is not None for gradient in gradients)
        assert torch.count_nonzero(gradients[0][5:]) == torch.count_nonzero(gradients[1][5:]) == 0  # type: ignore[index]
        assert torch.count_nonzero(gradients[2][:, 5:]) == 0  # type: ignore[index]
        assert torch.count_nonzero(gradients[0][:5]) > 0  # type: ignore[index]


def test_units_of_different_kinds_are_not_joined() -> None:
    weights = (torch.ones(2, 3), torch.ones(2, 3), torch.ones(3, 2))
    with pytest.raises(ValueError, match="different kinds"):
        concatenate([Glu(*weights, Activation("silu")), Glu(*weights, Activation("gelu"))])
    with pytest.raises(ValueError, match="no unit"):
        concatenate([])
