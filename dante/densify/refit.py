"""A dense unit's last product by ridge regression on what the block says: W = Y Hᵀ (H Hᵀ + λI)⁻¹ [C: KRAFTON].

H are the unit's hidden entries on calibration tokens, Y the block's outputs; λ is `ridge` times the mean of diag(H Hᵀ),
so that it means the same at any number of tokens [I]. Solved in fp64.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dante.models.moe.glu import Glu


@torch.no_grad()
def refit_down(
    unit: Glu, inputs_TD: Float[Tensor, "tokens width"], outputs_TD: Float[Tensor, "tokens width"], ridge: float
) -> Glu:
    """The unit with a new last product; its output's bias stays.

    Args:
        unit: gate and up as they are.
        inputs_TD: of the block.
        outputs_TD: of the block: what the unit is to say.
        ridge: λ in units of the mean of the diagonal.
    """
    hidden_TI = unit.hidden(inputs_TD).double()
    wanted_TD = outputs_TD.double() - (0.0 if unit.down_bias is None else unit.down_bias.double())
    gram_II = hidden_TI.T @ hidden_TI
    penalty = ridge * gram_II.diagonal().mean()
    if penalty == 0:
        return unit  # nothing is said of any entry
    gram_II.diagonal().add_(penalty)
    down_ID = torch.linalg.solve(gram_II, hidden_TI.T @ wanted_TD)
    return unit.with_down(down_ID.T.to(unit.down))


@torch.no_grad()
def nmse(unit: Glu, inputs_TD: Float[Tensor, "tokens width"], outputs_TD: Float[Tensor, "tokens width"]) -> float:
    """Σ_t ‖f(x_t) − y_t‖² / Σ_t ‖y_t‖² of a unit on a block's inputs and outputs."""
    difference = unit(inputs_TD).double() - outputs_TD.double()
    return float(difference.square().sum() / outputs_TD.double().square().sum().clamp_min(1e-30))
