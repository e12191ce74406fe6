"""Universal logit distillation: probabilities sorted on each side, whatever tokens they belong to.

    ℓ = Σ_i |t_(i) − s_(i)|          t_(1) ≥ t_(2) ≥ …, s_(1) ≥ s_(2) ≥ …    (Boizard et al. 2024, arXiv 2402.12030 [C])

of the merged probabilities at each span (`dante.losses.spans.merged`); the shorter vocabulary is filled up with zeros.
As in TRL's GOLD with its "bayesian" merge [C], but for the sum's normalisation.

With `most`, the most likely tokens of each side count one by one and all others as one:

    ℓ = Σ_{i ≤ most} |t_(i) − s_(i)| + |Σ_{i > most} t_(i) − Σ_{i > most} s_(i)|        [I]

which is lower than the whole by at most twice the smaller of the two tails, and needs no sort of a vocabulary.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from dante.errors import DanteError
from dante.losses.schedule import Schedule
from dante.losses.spans.merged import Merged, MergedSpans


class ULD(MergedSpans):
    """Sum of the spans' distances over supervised tokens.

    Args:
        weight: λ(progress).
        most: tokens of each side that count one by one, or null: all.
        name: key in the recipe.

    Raises:
        DanteError: `most` is below 1.
    """

    def __init__(self, weight: Schedule, most: int | None, name: str = "") -> None:
        super().__init__(weight, name)
        self.most = checked_most(most, self.name)

    def sentence(self) -> str:
        return (
            f"{self.name} holds the sorted probabilities of teacher and student against each other at the spans that "
            "both tokenizers end together, whatever the tokens are."
        )

    def measure(self, merged: Merged) -> tuple[Float[Tensor, " spans"], Float[Tensor, "spans vocab"]]:
        return sorted_distance(merged.theirs.exp(), merged.ours.exp(), self.most)


def sorted_distance(
    theirs: Float[Tensor, "spans their_part"], ours: Float[Tensor, "spans part"], most: int | None
) -> tuple[Float[Tensor, " spans"], Float[Tensor, "spans part"]]:
    """ℓ of probabilities, which need not sum to one, and its slope ∂ℓ/∂log m, a new tensor."""
    t_CK, _ = _sorted(theirs, most)
    s_CK, order_CK = _sorted(ours, most)
    kept = s_CK.shape[1]
    width = max(t_CK.shape[1], kept)
    apart_CK = pad(s_CK, (0, width - kept)) - pad(t_CK, (0, width - t_CK.shape[1]))
    value_C = apart_CK.abs().sum(-1)
    slope_CV = torch.zeros_like(ours)
    if most is not None:
        tail_C = _tail(ours, s_CK) - _tail(theirs, t_CK)
        value_C += tail_C.abs()
        slope_CV += ours * tail_C.sign()[:, None]
    return value_C, slope_CV.scatter_(1, order_CK, apart_CK[:, :kept].sign() * s_CK)


def _sorted(m_CV: Tensor, most: int | None) -> tuple[Tensor, Tensor]:
    """The largest first, and where they stand."""
    return m_CV.sort(dim=-1, descending=True) if most is None else m_CV.topk(min(most, m_CV.shape[1]), dim=-1)


def _tail(m_CV: Tensor, kept_CK: Tensor) -> Float[Tensor, " spans"]:
    if kept_CK.shape[1] == m_CV.shape[1]:
        return torch.zeros_like(kept_CK[:, 0])
    return (m_CV.sum(-1) - kept_CK.sum(-1)).clamp_min(0.0)


def checked_most(most: int | None, loss: str) -> int | None:
    """How many tokens count one by one.

    Raises:
        DanteError: it is below 1.
    """
    if most is not None and most < 1:
        raise DanteError(
            f"most is {most}",
            where=f"losses.{loss}.most",
            allowed="a number of tokens from 1, or null: all",
            fix=f"losses.{loss}.most=1024",
        )
    return most
