"""KL between both models' distributions renormalised over the teacher's K kept tokens: a control, and a trap.

    ℓ = Σ_K t̂ log(t̂/p̂)          t̂ = t/T,  p̂ = p/P          ∂ℓ/∂z_i = p̂_i − t̂_i in K, 0 outside

What many libraries ship. The student's mass outside K has no gradient at all, so nothing keeps it from growing: a
student can spend half its mass on tokens that the teacher excludes at no cost. `topk_tail` is what to use.

Metrics: none of its own; `loss/<name>` is in nats per token, and not comparable with a KL over the vocabulary.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dante.losses.distillation.kept import KeptLogits
from dante.losses.vocabulary.tile import Tile


class TopKRenormalised(KeptLogits):
    """Mean KL within the kept ids over supervised tokens, nats per token; arguments as of `KeptLogits`."""

    sparse_kind = "topk_tail"

    def sentence(self) -> str:
        return f"{self.name} is the KL within the teacher's kept tokens alone: nothing holds what lies outside them."

    def on_tile(self, tile: Tile, coefficients: Float[Tensor, " tile"]) -> Float[Tensor, " tile"]:
        there_TK, t_TK, log_p_TK = self.at_kept(tile)
        t_TK = t_TK / t_TK.sum(-1, keepdim=True).clamp_min(torch.finfo(t_TK.dtype).tiny)
        log_p_TK = log_p_TK.masked_fill(~there_TK, -torch.inf).log_softmax(-1).masked_fill(~there_TK, 0.0)
        if tile.wants_gradient:
            tile.add_entries(coefficients[:, None] * (log_p_TK.exp() - t_TK))
        return (torch.special.xlogy(t_TK, t_TK) - t_TK * log_p_TK).sum(-1)
