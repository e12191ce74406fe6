"""Normalised mean square error of a unit's output: what layer matching minimises (Laguna-dense card, stage 1 [C]).

    NMSE_l = Σ_t ‖f_l(x_t) − y_t‖² / (Σ_t ‖y_t‖² + ε)

Reported exactly; in training the denominator is the layer's mean over calibration tokens, so that the loss stays a
plain sum over tokens [I: the exact form is unpublished].
"""

from jaxtyping import Float
from torch import Tensor

from dante.losses.base import BlockLoss


class NormalisedError(BlockLoss):
    """‖f(x_t) − y_t‖² over the layer's usual ‖y_t‖²: every layer counts alike."""

    def per_token(
        self, ours_ND: Float[Tensor, "tokens width"], theirs_ND: Float[Tensor, "tokens width"], place: int
    ) -> Float[Tensor, " tokens"]:
        return (ours_ND - theirs_ND).square().sum(1) / self.energies[place]

    def sentence(self) -> str:
        return f"{self.name} is the squared error of every unit's output over the usual square of the block's."
