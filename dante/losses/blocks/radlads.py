"""RADLADS' first step [C: arXiv 2505.03005]: mean_t ‖y_T − y_S‖₂ · d^−½, the distance and not its square.

Loud tokens count less than under `NormalisedError`, and quiet layers count less than loud ones.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dante.losses.base import BlockLoss


class Distance(BlockLoss):
    """Euclidean distance of a unit's output from the block's, over the root of the width."""

    def per_token(
        self, ours_ND: Float[Tensor, "tokens width"], theirs_ND: Float[Tensor, "tokens width"], place: int
    ) -> Float[Tensor, " tokens"]:
        # The norm's gradient at 0 is no number, and a unit that is right already has it.
        squared_N = (ours_ND - theirs_ND).square().sum(1)
        return (squared_N + torch.finfo(squared_N.dtype).tiny).sqrt() * ours_ND.shape[1] ** -0.5

    def sentence(self) -> str:
        return f"{self.name} is the distance of every unit's output from the block's, over the root of the width."
