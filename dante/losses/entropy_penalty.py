"""Plain entropy penalty: every prediction is made more confident, right or wrong.

    L = (1/N) Σ_t H(p_θ(·|x_<t)) / log V          ∂H/∂z_i = −p_i (log p_i + H)

N is the supervised tokens of the whole optimizer step. The control of ADS (`dual_penalty`): no threshold, no guard, no
bound, no controller (minimum-entropy regularisation: Grandvalet and Bengio, 2004, "Semi-supervised Learning by Entropy
Minimization" [S]). A negative weight is the confidence penalty of Pereyra et al. (2017) [S].

Metrics: none of its own; `loss/<name>` is the mean normalised entropy.
"""

import math

from jaxtyping import Float
from torch import Tensor

from dante.losses.base import LinearLoss
from dante.losses.vocabulary.tile import Tile


class EntropyPenalty(LinearLoss):
    """Mean predictive entropy over supervised tokens, in units of log V.

    Args:
        weight: λ(progress).
        name: key in the recipe.
    """

    needs_logits = False
    needs_entropy = True

    def sentence(self) -> str:
        how = "right or wrong, without threshold, guard or bound"
        return f"{self.name} penalises the mean entropy of all predictions over log V, {how}."

    def on_tile(self, tile: Tile, coefficients: Float[Tensor, " tile"]) -> Float[Tensor, " tile"]:
        log_vocab = math.log(tile.exp.shape[1])
        tile.add_entropy(coefficients / log_vocab)
        return tile.entropy / log_vocab
