"""A dense student in two forms: as it is trained, and as stock classes store it.

A dense student of a mixture keeps the teacher's attention and everything else, and has one gated unit in the place of
every sparse block. Trained is a plain unit per block (`as_dense`): no router, no experts. Stored is the teacher's own
class, which transformers loads without remote code, in one of two forms:

- `unpadded`: one expert that is always on (two halves where the class cannot choose among fewer) and the shared one.
  Its parameters are the student's own, and a router of zeros.
- `padded`: dense layers of one size, that of the widest MLP, with zeros behind the others' entries. It has more
  parameters, and needs a class that has dense layers.

Both give the dense student's logits, up to the order of sums.
"""

import copy
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from dante.errors import DanteError
from dante.models.moe.adapter import Adapter
from dante.models.moe.glu import DenseGlu
from dante.models.moe.registry import ADAPTERS, adapter_for

Form = Literal["unpadded", "padded"]


def stored_dense(config: PreTrainedConfig) -> Adapter | None:
    """The adapter of a config that stores dense units as experts that are always on; None for any other model."""
    adapter = ADAPTERS.get(config.model_type)
    return adapter if adapter is not None and adapter.dense_size(config) is not None else None


def as_dense(model: PreTrainedModel) -> PreTrainedModel:
    """The student as it is trained: always-on experts become one unit per block, in place. Other models stay.

    Raises:
        DanteError: experts that are always on, but whose router weighs them differently from token to token.
    """
    config = model.config.get_text_config(decoder=True)
    adapter = stored_dense(config)
    if adapter is None:
        return model
    layers = decoder_layers(model)
    for number in adapter.sparse_layers(config):
        _check_router(adapter, layers[number], number, model)
        adapter.install(layers[number], adapter.stored(layers[number]))
    return model


def units(model: PreTrainedModel) -> dict[int, DenseGlu]:
    """The trainable units of a student in dense form, by layer; none in any other model."""
    adapter = ADAPTERS.get(model.config.get_text_config(decoder=True).model_type)
    if adapter is None:
        return {}
    found = {number: adapter.installed(layer) for number, layer in enumerate(decoder_layers(model))}
    return {number: unit for number, unit in found.items() if unit is not None}


def as_stored(model: PreTrainedModel, form: Form) -> PreTrainedModel:
    """A student in dense form as a model of its stock class; other models are returned as they are.

    Raises:
        DanteError: the class has no dense layers, and `padded` was asked for.
    """
    dense = units(model)
    if not dense:
        return model
    adapter = adapter_for(model.config.get_text_config(decoder=True), "student")
    stock = _empty(stored_config(model.config, adapter, next(iter(dense.values())).unit.size, form), model)
    targets, theirs = stock.state_dict(), model.state_dict()
    with torch.no_grad():
        for name, tensor in theirs.items():
            if name in targets and targets[name].shape == tensor.shape:
                targets[name].copy_(tensor)
    ours, stocks = decoder_layers(model), decoder_layers(stock)
    for number, unit in dense.items():
        (adapter.write if form == "unpadded" else adapter.write_padded)(stocks[number], unit.unit)
    if form == "padded":
        for number in set(range(len(ours))) - dense.keys():
            adapter.write_padded(stocks[number], adapter.padded(ours[number]))
    stock.generation_config = model.generation_config
    return stock


def parameters_stored(model: PreTrainedModel, form: Form) -> int:
    """How many parameters `as_stored` would give the model; nothing is allocated."""
    dense = as_dense(model)
    config, sizes = dense.config, [module.unit.size for module in units(dense).values()]
    if sizes:
        config = stored_config(config, adapter_for(config.get_text_config(decoder=True), "student"), max(sizes), form)
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())


def stored_config(config: PreTrainedConfig, adapter: Adapter, size: int, form: Form) -> PreTrainedConfig:
    """The config that stores units of `size` entries.

    Raises:
        DanteError: see `as_stored`.
    """
    stored = copy.deepcopy(config)
    decoder = stored.get_text_config(decoder=True)
    if form == "unpadded":
        adapter.describe(decoder, size)
    else:
        has_dense = len(adapter.sparse_layers(decoder)) < decoder.num_hidden_layers
        adapter.describe_padded(decoder, max(size, decoder.intermediate_size) if has_dense else size)
    return stored


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The blocks of a decoder, in order.

    Raises:
        DanteError: the model keeps them in no list `layers`.
    """
    decoder: Any = model.get_decoder()
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise DanteError(f"{type(model).__name__} keeps its blocks in no `layers` list", where="student")
    return layers


def _empty(config: PreTrainedConfig, like: PreTrainedModel) -> PreTrainedModel:
    dtype = next(like.parameters()).dtype
    with torch.random.fork_rng(devices=[]):
        empty: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    nn.Module.to(empty, next(like.parameters()).device)
    return empty


def _check_router(adapter: Adapter, layer: nn.Module, number: int, model: PreTrainedModel) -> None:
    """Two experts that are always chosen are one unit only while the router weighs them alike."""
    block = adapter.block(layer)
    parameter = next(layer.parameters())
    if block.experts == 1 or parameter.is_meta:
        return
    width = block.expert(0).gate.shape[1]
    probe = torch.randn(8, width, generator=torch.Generator().manual_seed(0)).to(parameter)
    weights = block.route(probe).weights * block.scaling
    if not bool((weights - 1).abs().max() < 1e-3):
        raise DanteError(
            f"{type(model).__name__} has {block.experts} experts in layer {number} that are always on, and its router "
            "weighs them differently from token to token",
            where="student.source",
            allowed="a dense student as this lab stores it (a router of zeros), or a mixture to be made dense",
        )
