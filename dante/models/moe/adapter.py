"""What has to be known of an architecture's sparse blocks, behind one small interface.

A block is `y = scaling · Σ_e w_e E_e(x) + Shared(x)`: the router chooses `top_k` experts of a token and weighs them;
the shared expert sees every token. An adapter says where its parts lie (`block`), puts one dense unit in a block's
place (`install`), and stores that unit in the architecture's own class, as a mixture whose experts are always on
(`describe`, `write`): stock classes load it, without remote code.

A new architecture is one file with one class in `adapters/`, and one line in `registry.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedConfig

from dante.models.moe.glu import DenseGlu, Glu, concatenate


@dataclass(frozen=True)
class Routing:
    """What a router says of some tokens.

    Attributes:
        weights: of the chosen experts, without the block's scaling, in the dtype that the block multiplies them in.
        experts: numbers of the chosen experts.
    """

    weights: Float[Tensor, "tokens top_k"]
    experts: Int64[Tensor, "tokens top_k"]


@dataclass(frozen=True)
class SparseBlock:
    """The parts of one sparse block; tensors are the model's own, not copies.

    Attributes:
        experts: how many it has.
        top_k: experts of a token.
        scaling: what the routed part is multiplied by.
        route: the router, as the block runs it.
        expert: the unit of an expert by its number.
        shared: the unit that sees every token, or None.
    """

    experts: int
    top_k: int
    scaling: float
    route: Callable[[Float[Tensor, "tokens width"]], Routing]
    expert: Callable[[int], Glu]
    shared: Glu | None

    @torch.no_grad()
    def __call__(self, x_TD: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens width"]:
        """The block's output from its parts: what the stock block gives, up to the order of its sums."""
        routing = self.route(x_TD)
        routed_TD = torch.zeros_like(x_TD)
        for number in routing.experts.unique().tolist():
            tokens_N, place_N = torch.where(routing.experts == number)
            output_ND = self.expert(number)(x_TD[tokens_N]) * routing.weights[tokens_N, place_N, None]
            routed_TD.index_add_(0, tokens_N, output_ND.to(routed_TD.dtype))
        routed_TD = routed_TD * self.scaling
        return routed_TD if self.shared is None else routed_TD + self.shared(x_TD)


class Adapter(ABC):
    """One architecture of transformers.

    Attributes:
        model_type: of its config.
        always_on: experts that a dense unit is stored in: 1, or 2 where the class cannot choose among fewer.
    """

    model_type: ClassVar[str]
    always_on: ClassVar[int] = 1

    # What the config says

    @abstractmethod
    def sparse_layers(self, config: PreTrainedConfig) -> list[int]:
        """Numbers of the layers that have a sparse block, ascending."""

    @abstractmethod
    def experts(self, config: PreTrainedConfig) -> int:
        """Experts of a block."""

    @abstractmethod
    def top_k(self, config: PreTrainedConfig) -> int:
        """Experts of a token."""

    @abstractmethod
    def expert_size(self, config: PreTrainedConfig) -> int:
        """Entries of an expert's unit."""

    @abstractmethod
    def shared_size(self, config: PreTrainedConfig) -> int:
        """Entries of the shared expert's unit; 0 where there is none."""

    @abstractmethod
    def describe(self, config: PreTrainedConfig, size: int) -> None:
        """Make `config`, in place, store dense units of at least `size` entries as experts that are always on."""

    @abstractmethod
    def describe_padded(self, config: PreTrainedConfig, size: int) -> None:
        """Make `config`, in place, that of a model without sparse layers whose MLPs all have `size` entries.

        Raises:
            DanteError: the class has no dense layers.
        """

    def dense_size(self, config: PreTrainedConfig) -> int | None:
        """Entries of each block's unit where the config is what `describe` makes of it; else None."""
        if not self.sparse_layers(config):
            return None
        if not self.experts(config) == self.top_k(config) == self.always_on or not self.weights_are_one(config):
            return None
        return self.shared_size(config) + self.always_on * self.expert_size(config)

    @abstractmethod
    def weights_are_one(self, config: PreTrainedConfig) -> bool:
        """Whether each of `always_on` experts that are chosen alike enters the block with the factor 1."""

    # What a decoder layer holds

    @abstractmethod
    def parts(self, layer: nn.Module) -> tuple[nn.Module, ...]:
        """The modules whose outputs are added up to what the block adds to the residual; all have the same input."""

    @abstractmethod
    def block(self, layer: nn.Module) -> SparseBlock:
        """The parts of a layer's sparse block."""

    @abstractmethod
    def write(self, layer: nn.Module, unit: Glu) -> None:
        """Write a dense unit into a layer whose config `describe` made."""

    @abstractmethod
    def install(self, layer: nn.Module, unit: Glu) -> DenseGlu:
        """Put a trainable unit into a layer, in place of its sparse block."""

    @abstractmethod
    def installed(self, layer: nn.Module) -> DenseGlu | None:
        """The unit that `install` has put there."""

    @abstractmethod
    def write_padded(self, layer: nn.Module, unit: Glu) -> None:
        """Write a dense unit into the MLP of a layer whose config `describe_padded` made."""

    def output(self, part_output: Any) -> Tensor:
        """What a part's forward adds, of what it returns."""
        output: Tensor = part_output
        return output

    def stored(self, layer: nn.Module) -> Glu:
        """The dense unit that a layer of such a config holds: shared part first, a copy."""
        block = self.block(layer)
        units = [block.expert(number) for number in range(block.experts)]
        return concatenate([unit for unit in (block.shared, *units) if unit is not None])

    def padded(self, layer: nn.Module) -> Glu:
        """The unit of a layer's MLP in a config that has dense layers, a copy."""
        raise NotImplementedError(type(self).__name__)
