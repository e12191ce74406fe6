"""Blocks as transformers 5 writes most of them: `gate`, packed `experts`, perhaps a shared MLP, all below `layer.mlp`.

What is different in an architecture stands in its own file: names of config keys, where scaling happens, which layers
are sparse.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig

from dante.errors import DanteError
from dante.models.moe.adapter import Adapter, Routing, SparseBlock
from dante.models.moe.glu import Activation, DenseGlu, Glu


class Packed(Adapter):
    """See the module.

    Attributes:
        experts_key: of the config: experts of a block.
        expert_size_key: entries of an expert.
    """

    experts_key: ClassVar[str] = "num_experts"
    expert_size_key: ClassVar[str] = "moe_intermediate_size"

    def sparse_layers(self, config: PreTrainedConfig) -> list[int]:
        return list(range(config.num_hidden_layers))

    def experts(self, config: PreTrainedConfig) -> int:
        return int(getattr(config, self.experts_key))

    def top_k(self, config: PreTrainedConfig) -> int:
        return int(config.num_experts_per_tok)

    def expert_size(self, config: PreTrainedConfig) -> int:
        return int(getattr(config, self.expert_size_key))

    def shared_size(self, config: PreTrainedConfig) -> int:
        return 0

    def describe(self, config: PreTrainedConfig, size: int) -> None:
        setattr(config, self.experts_key, self.always_on)
        config.num_experts_per_tok = self.always_on
        self._cut(config, size)
        self._weigh_by_one(config)

    def _cut(self, config: PreTrainedConfig, size: int) -> None:
        """Divide a unit's entries among the shared expert, which keeps its own, and the one that is always on."""
        shared = min(self.shared_size(config), size - 1)
        self._set_shared(config, shared)
        setattr(config, self.expert_size_key, whole_rows(size - shared))

    def _set_shared(self, config: PreTrainedConfig, size: int) -> None:
        """Where the class has a shared expert: its entries."""

    def _weigh_by_one(self, config: PreTrainedConfig) -> None:
        """Where it depends on the config: see `weights_are_one`."""

    def weights_are_one(self, config: PreTrainedConfig) -> bool:
        return True  # a softmax over one expert

    def describe_padded(self, config: PreTrainedConfig, size: int) -> None:
        raise DanteError(
            f"a {self.model_type} has no dense layers, so no folder of that class can hold it padded",
            where="steps.release.settings.form",
            allowed="unpadded",
            fix="take the padded release away: steps.release-padded=null",
        )

    def parts(self, layer: nn.Module) -> tuple[nn.Module, ...]:
        return (self._mlp(layer),)

    def block(self, layer: nn.Module) -> SparseBlock:
        mlp = self._mlp(layer)
        experts: Any = mlp.experts
        return SparseBlock(
            experts=int(experts.num_experts),
            top_k=int(self._router(mlp).top_k),
            scaling=self._scaling(mlp),
            route=lambda x_TD: self._route(mlp, x_TD),
            expert=lambda number: self._expert(experts, number),
            shared=self._shared(layer),
        )

    def write(self, layer: nn.Module, unit: Glu) -> None:
        block = self.block(layer)
        shared = 0 if block.shared is None else block.shared.size
        size = block.expert(0).size
        with torch.no_grad():
            for parameter in self._router(self._mlp(layer)).parameters():
                parameter.zero_()
            for buffer in self._router(self._mlp(layer)).buffers():
                buffer.zero_()
            whole = unit.padded(shared + self.always_on * size)
            if block.shared is not None:
                _copy(block.shared, whole.rows(0, shared))
            for number in range(self.always_on):
                start = shared + number * size
                _copy(block.expert(number), whole.rows(start, start + size))

    def install(self, layer: nn.Module, unit: Glu) -> DenseGlu:
        layer.mlp = DenseGlu(unit)
        return layer.mlp

    def installed(self, layer: nn.Module) -> DenseGlu | None:
        mlp = self._mlp(layer)
        return mlp if isinstance(mlp, DenseGlu) else None

    def write_padded(self, layer: nn.Module, unit: Glu) -> None:
        with torch.no_grad():
            mlp = self.padded(layer)
            _copy(mlp, unit.padded(mlp.size))

    def padded(self, layer: nn.Module) -> Glu:
        return mlp_unit(self._mlp(layer))

    def _mlp(self, layer: nn.Module) -> Any:
        return layer.mlp

    def _router(self, mlp: Any) -> Any:
        return mlp.gate

    def _scaling(self, mlp: Any) -> float:
        return 1.0

    def _route(self, mlp: Any, x_TD: Float[Tensor, "tokens width"]) -> Routing:
        _, weights_TK, experts_TK = self._router(mlp)(x_TD)
        return Routing(weights_TK, experts_TK)

    def _expert(self, experts: Any, number: int) -> Glu:
        gate_up, down = experts.gate_up_proj[number], experts.down_proj[number]
        gate, up = gate_up.chunk(2)
        return Glu(gate, up, down, activation_of(experts))

    def _shared(self, layer: nn.Module) -> Glu | None:
        return None


def whole_rows(size: int) -> int:
    """A size that torch's grouped product takes in any dtype: rows of whole 16 bytes. The rest is zeros."""
    return -(-size // 8) * 8


def mlp_unit(mlp: Any) -> Glu:
    """The unit of an ordinary MLP with `gate_proj`, `up_proj` and `down_proj`, not copied."""
    return Glu(mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight, activation_of(mlp))


def activation_of(module: Any) -> Activation:
    """The activation that a stock module names in its config."""
    return Activation(str(module.config.hidden_act))


def _copy(there: Glu, unit: Glu) -> None:
    for name, tensor in there.tensors.items():
        tensor.copy_(unit.tensors[name])
