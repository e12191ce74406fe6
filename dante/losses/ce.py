"""Cross-entropy on the teacher's text.

    L_CE = (1/N) Σ_t −log p_θ(y_t | y_<t)          ∂ℓ/∂z = softmax(z) − onehot(y)

Plain sequence-level distillation (SFT on the teacher's answers), the control of every recipe. In nats per token; N is
the supervised tokens of the whole optimizer step [I: sources do not say what a mean over micro-batches and ranks is].
Metrics: none of its own (every run logs `ce_nats`).
"""

from jaxtyping import Float
from torch import Tensor

from dante.losses.base import LinearLoss
from dante.losses.vocabulary.tile import Tile


class CE(LinearLoss):
    """Mean cross-entropy over supervised tokens, nats per token.

    Args:
        weight: λ(progress).
        name: key in the recipe.
    """

    needs_logits = False

    def on_tile(self, tile: Tile, coefficients: Float[Tensor, " tile"]) -> Float[Tensor, " tile"]:
        tile.add_probability(coefficients)
        tile.add_label(-coefficients)
        return -tile.label_log_probability
