"""Laguna: sigmoid router in the model's dtype, a bias that selects, one shared expert, scaling after the sum."""

from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from dante.models.moe.adapters.packed import Packed, mlp_unit
from dante.models.moe.glu import Glu


class Laguna(Packed):
    """See the module."""

    model_type = "laguna"

    def sparse_layers(self, config: PreTrainedConfig) -> list[int]:
        return [number for number, kind in enumerate(config.mlp_layer_types) if kind == "sparse"]

    def shared_size(self, config: PreTrainedConfig) -> int:
        return int(config.shared_expert_intermediate_size)

    def weights_are_one(self, config: PreTrainedConfig) -> bool:
        return bool(config.moe_routed_scaling_factor == 1.0)

    def _set_shared(self, config: PreTrainedConfig, size: int) -> None:
        config.shared_expert_intermediate_size = size

    def _weigh_by_one(self, config: PreTrainedConfig) -> None:
        config.moe_routed_scaling_factor = 1.0

    def describe_padded(self, config: PreTrainedConfig, size: int) -> None:
        config.mlp_layer_types, config.intermediate_size = ["dense"] * config.num_hidden_layers, size

    def _scaling(self, mlp: Any) -> float:
        return float(mlp.routed_scaling_factor)

    def _shared(self, layer: nn.Module) -> Glu | None:
        return mlp_unit(self._mlp(layer).shared_experts)
