"""Routers that first choose groups of experts: sigmoid scores, a bias that selects without weighing, scaled weights.

A group needs two experts, so a dense unit is stored as two halves, each with the weight ½ and the scaling 2, beside a
shared expert of the same size.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig

from dante.models.moe.adapter import Routing
from dante.models.moe.adapters.packed import Packed, mlp_unit, whole_rows
from dante.models.moe.glu import Glu


class Grouped(Packed):
    """See the module."""

    experts_key = "n_routed_experts"
    always_on = 2

    def sparse_layers(self, config: PreTrainedConfig) -> list[int]:
        return list(range(min(config.first_k_dense_replace, config.num_hidden_layers), config.num_hidden_layers))

    def shared_size(self, config: PreTrainedConfig) -> int:
        return int(config.moe_intermediate_size * config.n_shared_experts)

    def weights_are_one(self, config: PreTrainedConfig) -> bool:
        # Both halves are chosen, whatever the groups; the router's rows are zeros in what `write` stores.
        return bool(config.norm_topk_prob) and config.routed_scaling_factor == 2.0

    def _cut(self, config: PreTrainedConfig, size: int) -> None:
        config.n_shared_experts = 1
        config.moe_intermediate_size = whole_rows(-(-size // 3))

    def _weigh_by_one(self, config: PreTrainedConfig) -> None:
        config.norm_topk_prob, config.routed_scaling_factor = True, 2.0
        config.n_group = config.topk_group = 1
        config.num_mtp_layers = 0

    def describe_padded(self, config: PreTrainedConfig, size: int) -> None:
        config.first_k_dense_replace, config.intermediate_size = config.num_hidden_layers, size
        config.num_mtp_layers = 0

    def _scaling(self, mlp: Any) -> float:
        return float(mlp.gate.routed_scaling_factor)

    def _route(self, mlp: Any, x_TD: Float[Tensor, "tokens width"]) -> Routing:
        _, weights_TK, experts_TK = mlp.gate(x_TD)
        return Routing(weights_TK / mlp.gate.routed_scaling_factor, experts_TK)

    def _shared(self, layer: nn.Module) -> Glu | None:
        return mlp_unit(self._mlp(layer).shared_experts)
