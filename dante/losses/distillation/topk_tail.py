"""KL on kept logits with a tail bucket: the K tokens that were kept of the teacher, and one class for all others.

    ℓ = Σ_K t log(t/p) + (1−T) log((1−T)/(1−P))          T = Σ_K t,  P = Σ_K p        [C]

t is the teacher's, p the student's probability; both have the mass that they have outside K in one bucket. Merging
classes can only lower a KL divergence, so ℓ is never above the full one, and equal where K is the whole vocabulary.
Gradient, with r = (1−T)/(1−P):

    ∂ℓ/∂z_i = p_i − t_i  in K          ∂ℓ/∂z_i = (1 − r) p_i  outside

Outside K the student's mass is pushed to the teacher's tail as a whole: `topk_renormalised`, which drops the bucket,
leaves it alone. Kept logits come from files beside the cache or from a server (`dante.supervision`).

Metrics: `kl_nats`, ℓ: a lower bound of KL(teacher ‖ student) in nats per token.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from dante.losses.distillation.kept import KeptLogits
from dante.losses.tokens import SupervisedTokens
from dante.losses.vocabulary.tile import Tile

# Of the student's mass outside K that fp32 can tell from none.
_LEAST_MASS = 1e-7


class TopKTail(KeptLogits):
    """Mean tail-bucket KL over supervised tokens, nats per token; arguments as of `KeptLogits`."""

    sparse_kind = "topk_tail"

    def sentence(self) -> str:
        return f"{self.name} is the KL on the teacher's kept logits, with one bucket for all other tokens."

    def on_tile(self, tile: Tile, coefficients: Float[Tensor, " tile"]) -> Float[Tensor, " tile"]:
        there_TK, t_TK, log_p_TK = self.at_kept(tile)
        tail_T = tile.sparse.tail.to(log_p_TK)
        p_TK = log_p_TK.exp().masked_fill(~there_TK, 0.0)
        rest_T = (1.0 - p_TK.sum(-1)).clamp_min(_LEAST_MASS)
        ratio_T = tail_T / rest_T
        if tile.wants_gradient:
            # (1 − r)·p everywhere (T − r·P, where what was stored does not quite add up to one), and what is missing to
            # p − t at the kept ids.
            tile.add_probability(coefficients * (t_TK.sum(-1) - ratio_T * p_TK.sum(-1)))
            tile.add_entries(coefficients[:, None] * (ratio_T[:, None] * p_TK - t_TK))
        kept_T = (torch.special.xlogy(t_TK, t_TK) - t_TK * log_p_TK).sum(-1)
        return kept_T + torch.special.xlogy(tail_T, ratio_T)

    def metrics(
        self, tokens: SupervisedTokens, values: Float[Tensor, " tokens"], kept: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return {"kl_nats": values.sum() / tokens.step_tokens}
