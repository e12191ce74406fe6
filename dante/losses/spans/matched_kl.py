"""KL on the tokens that teacher and student share, byte for byte, with a bucket for everything else.

    ℓ = Σ_M t log(t/s) + r_T log(r_T/r_S)          r = 1 − Σ_M m        [I, after the tail bucket of kept logits [C]]

t and s are the merged probabilities (`dante.losses.spans.merged`) of the teacher and of the student on M: where both
have the span as one token, all tokens of equal bytes; elsewhere the observed text alone, and ℓ is the KL of two events.
Merging classes can only lower a KL divergence, so ℓ is never above that of the whole distributions over texts, and it
is the plain forward KL where both sides have one vocabulary.

Unlike GOLD's matched part it has the bucket, without which mass that a side has outside M is free.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dante.losses.spans.merged import Merged, MergedSpans

# Of a bucket's mass in fp32: of the sum of a vocabulary's tail, and of one less an observed text's likelihood.
_LEAST_TAIL, _LEAST_REST = 1e-30, 1e-6


class MatchedKL(MergedSpans):
    """Sum of the spans' KL over supervised tokens, nats per token; arguments as of `Loss`."""

    def sentence(self) -> str:
        return (
            f"{self.name} is KL(teacher ‖ student) at the spans that both tokenizers end together, on the tokens that "
            "both have and one bucket for all others."
        )

    def measure(self, merged: Merged) -> tuple[Float[Tensor, " spans"], Float[Tensor, "spans vocab"]]:
        return _one_by_one(merged) if merged.one_token else _observed(merged)


def _one_by_one(merged: Merged) -> tuple[Tensor, Tensor]:
    matched = merged.matched
    log_t_CM, log_s_CM = merged.theirs[:, matched.theirs], merged.ours[:, matched.ours]
    t_CM, slope_CV = log_t_CM.exp(), merged.ours.exp()
    rest_t_C = _outside(merged.theirs.exp(), matched.theirs)
    rest_s_C = _outside(slope_CV, matched.ours)
    ratio_C = rest_t_C / rest_s_C
    value_C = torch.linalg.vecdot(t_CM, log_t_CM - log_s_CM) + rest_t_C * ratio_C.log()
    # A multiple of m may be added to all slopes, since no token stands before this one: so none is a difference of two
    # large numbers where the student has next to nothing in its bucket.
    slope_CV.mul_(-ratio_C[:, None])
    slope_CV[:, matched.ours] = -t_CM
    return value_C, slope_CV


def _observed(merged: Merged) -> tuple[Tensor, Tensor]:
    log_t_C1, log_s_C1 = merged.observed
    rest_t_C1, rest_s_C1 = ((-torch.expm1(side)).clamp_min(_LEAST_REST) for side in (log_t_C1, log_s_C1))
    ratio_C1 = rest_t_C1 / rest_s_C1
    value_C1 = log_t_C1.exp() * (log_t_C1 - log_s_C1) + rest_t_C1 * ratio_C1.log()
    slope_C1 = ratio_C1 * log_s_C1.exp() - log_t_C1.exp()
    return value_C1[:, 0], torch.zeros_like(merged.ours).scatter_(1, merged.our_last[:, None], slope_C1)


def _outside(m_CV: Float[Tensor, "spans vocab"], matched: Tensor) -> Float[Tensor, " spans"]:
    """Mass outside the matched tokens: a sum, so that a small one has all its digits."""
    outside_V = torch.ones(m_CV.shape[1], dtype=torch.bool, device=m_CV.device)
    outside_V[matched] = False
    return m_CV[:, outside_V].sum(-1).clamp_min(_LEAST_TAIL)
