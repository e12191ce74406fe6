"""RS-KD: cross-entropy against tokens that were drawn from the teacher's distribution (arXiv 2503.16870 [C]).

    ℓ = −Σ s log p          s = how often a token was drawn / N          ∂ℓ/∂z_i = p_i − s_i

N tokens are drawn with replacement when the files are made, so E[s] is the teacher's distribution and the gradient is
that of the forward KL on average: unbiased, where the largest K alone are not. E[ℓ] is the cross-entropy of the
teacher's distribution with the student's, which is the KL and the teacher's entropy.

Metrics: none of its own; `loss/<name>` is that cross-entropy in nats per token.
"""

from jaxtyping import Float
from torch import Tensor

from dante.losses.distillation.kept import KeptLogits
from dante.losses.vocabulary.tile import Tile


class RandomSampling(KeptLogits):
    """Mean cross-entropy against the teacher's drawn tokens, nats per token; arguments as of `KeptLogits`."""

    sparse_kind = "random_sampling"

    def sentence(self) -> str:
        return f"{self.name} is the cross-entropy against tokens that were drawn from the teacher's distribution."

    def on_tile(self, tile: Tile, coefficients: Float[Tensor, " tile"]) -> Float[Tensor, " tile"]:
        _, share_TK, log_p_TK = self.at_kept(tile)
        if tile.wants_gradient:
            tile.add_probability(coefficients * share_TK.sum(-1))
            tile.add_entries(-coefficients[:, None] * share_TK)
        return -(share_TK * log_p_TK).sum(-1)
