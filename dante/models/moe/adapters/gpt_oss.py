"""gpt-oss: transposed experts with biases, gate and up in turns, clamped; the block returns its weights, too."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from dante.models.moe.adapters.packed import Packed
from dante.models.moe.glu import Activation, DenseGlu, Glu


class GptOss(Packed):
    """See the module."""

    model_type = "gpt_oss"
    experts_key, expert_size_key = "num_local_experts", "intermediate_size"

    def install(self, layer: nn.Module, unit: Glu) -> DenseGlu:
        layer.mlp = _WithWeights(unit)
        return layer.mlp

    def output(self, part_output: Any) -> Tensor:
        output: Tensor = part_output[0]
        return output

    def _router(self, mlp: Any) -> Any:
        return mlp.router

    def _expert(self, experts: Any, number: int) -> Glu:
        gate_up, bias = experts.gate_up_proj[number].T, experts.gate_up_proj_bias[number]
        return Glu(
            gate=gate_up[::2],
            up=gate_up[1::2],
            down=experts.down_proj[number].T,
            activation=Activation("gpt_oss", float(experts.alpha), float(experts.limit)),
            gate_bias=bias[::2],
            up_bias=bias[1::2],
            down_bias=experts.down_proj_bias[number],
        )


class _WithWeights(DenseGlu):
    """The layer expects an output and the router's weights, which it throws away."""

    def forward(self, x: Float[Tensor, "... width"]) -> tuple[Float[Tensor, "... width"], None]:  # type: ignore[override]
        return super().forward(x), None
