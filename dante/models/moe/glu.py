"""Gated linear units as weights that can be joined and cut: what an expert is, and what a dense block is.

`y = W_down · h(W_gate x + b_gate, W_up x + b_up) + b_down`, `h` entry by entry. So the sum of several units with
weights that no token changes is one unit whose gate and up rows stand below each other and whose down columns stand
side by side [C: KRAFTON, arXiv 2605.28207]; biases and clamps included [I: exact, tested].

Shape suffixes: T tokens, D width of the model, I width of the unit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers.activations import ACT2FN


@dataclass(frozen=True)
class Activation:
    """What lies between a unit's first and second product: a function of gate and up, entry by entry.

    Attributes:
        name: of the activation in transformers' table, or `gpt_oss`.
        alpha: of `gpt_oss`: slope of its sigmoid.
        limit: of `gpt_oss`: what gate (from above) and up (from both sides) are clamped to.
    """

    name: str
    alpha: float = 0.0
    limit: float = 0.0

    def __call__(self, gate: Tensor, up: Tensor) -> Tensor:
        if self.name != "gpt_oss":
            function: Callable[[Tensor], Tensor] = ACT2FN[self.name]
            return function(gate) * up
        gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        return (up + 1) * (gate * torch.sigmoid(gate * self.alpha))

    @property
    def zero(self) -> bool:
        """Whether an entry whose gate and up are 0 is 0: then rows of zeros pad a unit."""
        return bool(self(torch.zeros(()), torch.zeros(())) == 0)


@dataclass(frozen=True)
class Glu:
    """The weights of one unit.

    Attributes:
        gate: rows are the unit's entries.
        up: as `gate`.
        down: columns are the unit's entries.
        activation: between them.
        gate_bias: or None, where the unit has no biases; then the other two are None, too.
        up_bias: as `gate_bias`.
        down_bias: of the output.
    """

    gate: Float[Tensor, "unit width"]
    up: Float[Tensor, "unit width"]
    down: Float[Tensor, "width unit"]
    activation: Activation
    gate_bias: Float[Tensor, " unit"] | None = None
    up_bias: Float[Tensor, " unit"] | None = None
    down_bias: Float[Tensor, " width"] | None = None

    @property
    def size(self) -> int:
        """Entries of the unit: its width."""
        return self.gate.shape[0]

    @property
    def parameters(self) -> int:
        """How many numbers it is."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def hidden(self, x_TD: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens unit"]:
        """What enters the second product."""
        return self.activation(F.linear(x_TD, self.gate, self.gate_bias), F.linear(x_TD, self.up, self.up_bias))

    def __call__(self, x_TD: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens width"]:
        return F.linear(self.hidden(x_TD), self.down, self.down_bias)

    def scaled(self, factor: float) -> "Glu":
        """The unit whose output is `factor` times this one's."""
        bias = None if self.down_bias is None else self.down_bias * factor
        return replace(self, down=self.down * factor, down_bias=bias)

    def with_down(self, down: Float[Tensor, "width unit"]) -> "Glu":
        """The unit with another last product."""
        return replace(self, down=down)

    def rows(self, start: int, stop: int) -> "Glu":
        """Some entries of the unit; the output's bias stays with those that begin at 0."""
        cut = slice(start, stop)
        bias = self.down_bias
        return replace(
            self,
            gate=self.gate[cut],
            up=self.up[cut],
            down=self.down[:, cut],
            gate_bias=None if self.gate_bias is None else self.gate_bias[cut],
            up_bias=None if self.up_bias is None else self.up_bias[cut],
            down_bias=bias if bias is None or start == 0 else torch.zeros_like(bias),
        )

    def padded(self, size: int) -> "Glu":
        """The unit with entries of zeros behind its own, which change nothing.

        Raises:
            ValueError: the activation of zeros is not zero.
        """
        if size > self.size and not self.activation.zero:
            raise ValueError(f"{self.activation.name} of zeros is not 0")
        more = size - self.size
        return replace(
            self,
            gate=F.pad(self.gate, (0, 0, 0, more)),
            up=F.pad(self.up, (0, 0, 0, more)),
            down=F.pad(self.down, (0, more)),
            gate_bias=None if self.gate_bias is None else F.pad(self.gate_bias, (0, more)),
            up_bias=None if self.up_bias is None else F.pad(self.up_bias, (0, more)),
        )

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its weights by name, and its biases where it has some."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}


def concatenate(units: Sequence[Glu]) -> Glu:
    """One unit whose output is the sum of the others'.

    Raises:
        ValueError: there is none, they have different activations, or only some have biases.
    """
    if not units:
        raise ValueError("no unit to join")
    activations = {unit.activation for unit in units}
    biased = {unit.down_bias is not None for unit in units}
    if len(activations) > 1 or len(biased) > 1:
        raise ValueError(f"units of different kinds: {', '.join(sorted(a.name for a in activations))}")
    biases: dict[str, Any] = {}
    if biased == {True}:
        biases = {
            "gate_bias": torch.cat([unit.gate_bias for unit in units]),  # type: ignore[misc]
            "up_bias": torch.cat([unit.up_bias for unit in units]),  # type: ignore[misc]
            "down_bias": torch.stack([unit.down_bias for unit in units]).sum(0),  # type: ignore[misc]
        }
    return Glu(
        gate=torch.cat([unit.gate for unit in units]),
        up=torch.cat([unit.up for unit in units]),
        down=torch.cat([unit.down for unit in units], dim=1),
        activation=units[0].activation,
        **biases,
    )


def average(units: Sequence[Glu], weights: Sequence[float]) -> Glu:
    """One unit of the same size: the weighted mean of the others, entry by entry; equal weights where all are 0."""
    if len(units) == 1:
        return units[0]
    total = sum(weights)
    shares = [weight / total for weight in weights] if total > 0 else [1 / len(units)] * len(units)

    def mean(name: str) -> Tensor:
        tensors = [unit.tensors[name] for unit in units]
        wide = torch.promote_types(tensors[0].dtype, torch.float32)
        parts = [share * tensor.to(wide) for share, tensor in zip(shares, tensors, strict=True)]
        return torch.stack(parts).sum(0).to(tensors[0])

    means: dict[str, Any] = {name: mean(name) for name in units[0].tensors}
    return replace(units[0], **means)


class DenseGlu(nn.Module):
    """A unit as a module that is trained: a dense block.

    Args:
        unit: its weights as they are at the start; the module has memory of its own.
    """

    def __init__(self, unit: Glu) -> None:
        super().__init__()
        self.activation = unit.activation
        self.gate_proj = _linear(unit.gate, unit.gate_bias)
        self.up_proj = _linear(unit.up, unit.up_bias)
        self.down_proj = _linear(unit.down, unit.down_bias)

    def forward(self, x: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
        output: Tensor = self.down_proj(self.activation(self.gate_proj(x), self.up_proj(x)))
        return output

    @property
    def unit(self) -> Glu:
        """Its weights, not copied."""
        gate, up, down = self.gate_proj, self.up_proj, self.down_proj
        return Glu(
            gate.weight.detach(),
            up.weight.detach(),
            down.weight.detach(),
            self.activation,
            *(None if layer.bias is None else layer.bias.detach() for layer in (gate, up, down)),
        )


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer
