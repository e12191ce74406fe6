"""Lagrange multipliers of a constraint g ≤ 0: how a dual variable λ ≥ 0 follows the violation.

`NuPI` is the νPI controller (Sohrabi et al., ICML 2024, "On PI Controllers for Updating Lagrange Multipliers in
Constrained Optimization", algorithm 1 [C]), once per optimizer step:

    ξ_k = ν ξ_{k−1} + (1 − ν) g_k          λ ← clip(λ + K_I g_k + K_P (ξ_k − ξ_{k−1}), 0, λ_max)

with ξ_{−1} = 0. K_P = 0 is plain dual ascent. Ours [I]: K_I is divided by the number of optimizer steps, so that a gain
means the same at any length of run (a violation of one unit in every step of it raises λ by K_I); the proportional term
is off while λ = 0 and g < 0, so that a jump of a constraint that holds all along does not punish it; λ itself is the
integral and is clipped, so that nothing winds up at λ_max: the first step with g < 0 brings it down (at K_P = 0; a
proportional term may add to it as long as g rises).
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dante.errors import DanteError
from dante.look.numbers import number


class Multiplier(nn.Module):
    """A dual variable: `value`, an fp32 buffer, equal on every rank and in every checkpoint; at most `maximum`."""

    #: Whether it moves to keep a bound.
    adapts: ClassVar[bool] = True
    value: Tensor

    def __init__(self, value: float, maximum: float) -> None:
        super().__init__()
        self.maximum = maximum
        self.register_buffer("value", torch.tensor(value, dtype=torch.float32))

    def update(self, violation: Float[Tensor, ""], share: float, applied: Bool[Tensor, ""]) -> None:
        """One dual step.

        Args:
            violation: g of this optimizer step, over all ranks.
            share: what part of the run a step is (1 / steps).
            applied: where false, nothing moves.
        """

    def sentence(self) -> str:
        """What moves it, in words that follow a comma."""
        return f"the multiplier follows {type(self).__name__}"


class Fixed(Multiplier):
    """A multiplier that does not move: the penalty method, a control.

    Args:
        level: λ.

    Raises:
        DanteError: λ is negative.
    """

    adapts = False

    def __init__(self, level: float) -> None:
        if level < 0:
            raise DanteError(f"level is {level:g}", where="multiplier.level", allowed="a number ≥ 0")
        super().__init__(level, level)

    def sentence(self) -> str:
        return f"the multiplier is fixed at {number(self.maximum)}"


class NuPI(Multiplier):
    """The νPI controller.

    Args:
        k_i: integral gain: by how much a violation of 1 in every step of a run raises λ.
        k_p: proportional gain: by how much a jump of the (smoothed) violation by 1 raises λ.
        nu: smoothing ν of the proportional term's violation, in [0, 1).
        maximum: λ_max.

    Raises:
        DanteError: a number outside its range.
    """

    smoothed: Tensor

    def __init__(self, k_i: float, k_p: float, nu: float, maximum: float) -> None:
        super().__init__(0.0, maximum)
        for name, value, holds, allowed in (
            ("k_i", k_i, k_i >= 0, "a number ≥ 0"),
            ("k_p", k_p, k_p >= 0, "a number ≥ 0"),
            ("nu", nu, 0 <= nu < 1, "a number in [0, 1)"),
            ("maximum", maximum, maximum > 0, "a number > 0"),
        ):
            if not holds:
                raise DanteError(f"{name} is {value:g}", where=f"multiplier.{name}", allowed=allowed)
        self.k_i, self.k_p, self.nu = k_i, k_p, nu
        self.register_buffer("smoothed", torch.zeros((), dtype=torch.float32))

    def sentence(self) -> str:
        settings = f"K_I {number(self.k_i)}, K_P {number(self.k_p)}, ν {number(self.nu)}"
        return f"the multiplier follows νPI ({settings}, at most {number(self.maximum)})"

    def update(self, violation: Float[Tensor, ""], share: float, applied: Bool[Tensor, ""]) -> None:
        g = violation.to(self.value)
        smoothed = self.nu * self.smoothed + (1 - self.nu) * g
        rests = (self.value == 0) & (g < 0)
        proportional = torch.where(rests, torch.zeros_like(g), self.k_p * (smoothed - self.smoothed))
        moved = (self.value + share * self.k_i * g + proportional).clamp(0.0, self.maximum)
        self.value.copy_(torch.where(applied, moved, self.value))
        self.smoothed.copy_(torch.where(applied, smoothed, self.smoothed))
