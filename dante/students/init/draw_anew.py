"""Random weights in the student's shape: the control that asks what the inherited weights are worth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from dante.students.init.base import Init
from dante.students.init.keep_layers import KeepLayers


class DrawAnew(Init):
    """The shape of `KeepLayers`, with weights drawn as the architecture prescribes.

    Args:
        layers: ascending indices of the source's layers that give the shape; None: all.
        seed: of the draws.
    """

    def __init__(self, layers: list[int] | None, seed: int) -> None:
        self.shape, self.seed = KeepLayers(layers), seed

    def reshape(self, config: PreTrainedConfig) -> None:
        self.shape.reshape(config)

    def begin(self, model: PreTrainedModel, inputs: Mapping[str, Path]) -> PreTrainedModel:
        model = self.shape.begin(model, inputs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            fresh = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32, attn_implementation="sdpa")
        return fresh.to(model.dtype)

    def described(self) -> dict[str, Any]:
        return self.shape.described() | {"weights": "random"}
