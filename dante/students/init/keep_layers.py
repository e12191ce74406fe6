"""Depth pruning: keep named decoder layers, in place, so that the result is a stock model of fewer layers.

Works for decoders that keep their blocks in one `layers` list (Llama, Qwen, SmolLM, Mistral, Gemma …). What the config
says layer by layer follows the kept ones (`dante.models.fewer_layers`), and every module's `layer_idx` is renumbered:
without that a KV cache would have holes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from dante.errors import DanteError
from dante.models.fewer_layers import describe_layers
from dante.students.init.base import Init

WHERE = "student.init.layers"


class KeepLayers(Init):
    """The source's weights, of all layers or of some.

    Args:
        layers: ascending indices of the layers to keep; None: all.

    Raises:
        DanteError: the indices are none, or do not ascend.
    """

    def __init__(self, layers: list[int] | None) -> None:
        if layers is not None and (not layers or sorted(set(layers)) != layers):
            ascending = str(sorted(set(layers)) or "null").replace(" ", "")
            raise DanteError(
                f"{WHERE}={layers} is not a list of ascending, different layers",
                where=WHERE,
                allowed="for example [0,2,5,8]; null keeps all",
                fix=f"{WHERE}={ascending}",
            )
        self.layers = layers

    def reshape(self, config: PreTrainedConfig) -> None:
        if self.layers is not None:
            describe_layers(config, check_layers(self.layers, config.num_hidden_layers))

    def begin(self, model: PreTrainedModel, inputs: Mapping[str, Path]) -> PreTrainedModel:
        return model if self.layers is None else keep_layers(model, self.layers)

    def described(self) -> dict[str, Any]:
        return {"layers": self.layers, "weights": "pretrained"}


def keep_layers(model: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """Drop every decoder layer that is not in `layers`; the model is changed in place and returned.

    Args:
        model: a causal language model.
        layers: ascending indices of the layers to keep.

    Raises:
        DanteError: an index is out of range, repeated or out of order, or the model has no list of layers.
    """
    decoder: Any = model.get_decoder()
    blocks = getattr(decoder, "layers", None)
    if not isinstance(blocks, nn.ModuleList):
        raise DanteError(
            f"{type(model).__name__} keeps its blocks in no `layers` list, so none can be dropped",
            where=WHERE,
            fix=f"{WHERE}=null",
        )
    kept = check_layers(layers, len(blocks))
    decoder.layers = nn.ModuleList([blocks[index] for index in kept])
    for number, block in enumerate(decoder.layers):
        for module in block.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                module.layer_idx = number
    describe_layers(model.config.get_text_config(decoder=True), kept)
    return model


def check_layers(layers: Sequence[int], available: int) -> list[int]:
    """`layers` as a list, if it names existing layers in ascending order without repetition."""
    kept = list(layers)
    where, allowed = WHERE, f"ascending layer indices from 0 to {available - 1}, each once"
    if not kept:
        raise DanteError("no layer is kept", where=where, allowed=allowed)
    outside = [index for index in kept if not 0 <= index < available]
    if outside:
        raise DanteError(f"layer {outside[0]} does not exist: there are {available}", where=where, allowed=allowed)
    for before, after in zip(kept, kept[1:], strict=False):
        if before == after or after in kept[: kept.index(before)]:
            raise DanteError(f"layer {after} is named twice", where=where, allowed=allowed)
        if before > after:
            raise DanteError(f"layer {after} stands after layer {before}", where=where, allowed=allowed)
    return kept
