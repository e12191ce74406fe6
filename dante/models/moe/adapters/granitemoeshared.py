"""Granite MoE with a shared expert: two modules of the layer, added up before its multiplier."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig

from dante.models.moe.adapter import Routing
from dante.models.moe.adapters.packed import Packed
from dante.models.moe.glu import Activation, DenseGlu, Glu


class GraniteMoeShared(Packed):
    """See the module."""

    model_type = "granitemoeshared"
    experts_key, expert_size_key = "num_local_experts", "intermediate_size"

    def shared_size(self, config: PreTrainedConfig) -> int:
        return int(config.shared_intermediate_size)

    def _set_shared(self, config: PreTrainedConfig, size: int) -> None:
        config.shared_intermediate_size = size

    def parts(self, layer: nn.Module) -> tuple[nn.Module, ...]:
        parts = (layer.block_sparse_moe, layer.shared_mlp)
        return tuple(part for part in parts if isinstance(part, nn.Module))

    def install(self, layer: nn.Module, unit: Glu) -> DenseGlu:
        there: Any = layer
        there.block_sparse_moe, there.shared_mlp = DenseGlu(unit), None
        dense: DenseGlu = there.block_sparse_moe
        return dense

    def _mlp(self, layer: nn.Module) -> Any:
        return layer.block_sparse_moe

    def _router(self, mlp: Any) -> Any:
        return mlp.router

    def _route(self, mlp: Any, x_TD: Float[Tensor, "tokens width"]) -> Routing:
        experts_TK, weights_TK, _ = mlp.router(x_TD)
        return Routing(weights_TK, experts_TK)

    def _shared(self, layer: nn.Module) -> Glu | None:
        shared: Any = layer.shared_mlp
        if shared is None:
            return None
        gate, up = shared.input_linear.weight.chunk(2)
        # The layer's own experts know the config; the shared MLP keeps the function alone.
        return Glu(gate, up, shared.output_linear.weight, Activation(str(self._mlp(layer).experts.config.hidden_act)))
