"""What the losses on kept logits have in common: they read sparse targets, and no whole logits."""

from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from dante.losses.base import LinearLoss
from dante.losses.tokens import Need
from dante.losses.vocabulary.tile import Tile


class KeptLogits(LinearLoss):
    """Base of losses on the teacher's sparse targets.

    Args:
        weight: λ(progress).
        name: key in the recipe.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"sparse"})
    needs_logits = False
    #: Which files it reads.
    sparse_kind: ClassVar[str]

    @staticmethod
    def at_kept(
        tile: Tile,
    ) -> tuple[Bool[Tensor, "tile kept"], Float[Tensor, "tile kept"], Float[Tensor, "tile kept"]]:
        """Where an id stands, the teacher's probabilities t (0 elsewhere), and the student's log p (0 elsewhere)."""
        targets, log_p_TK = tile.sparse, tile.sparse_log_probabilities
        there_TK = targets.ids >= 0
        return there_TK, targets.probabilities.to(log_p_TK), log_p_TK.masked_fill(~there_TK, 0.0)
