"""GOLD's hybrid: tokens that both sides have are compared one by one, all others sorted.

    ℓ = w · Σ_M JSD_β(t, s) + (1 − w) · Σ_i |t'_(i) − s'_(i)|          w = |M| / |V_T|        (TRL's GOLD [C])

M and the merged probabilities are those of `dante.losses.spans.matched_kl`; t' and s' are what is outside M
(`dante.losses.spans.uld`). JSD_β is taken pair by pair, βt log(t/m) + (1−β)s log(s/m), m = βt + (1−β)s, which is never
negative although neither side sums to one over M: at β = 0 and 1 it would be, so these are refused.

TRL compares tokens of equal names in spans of several tokens, too, where they are different texts: here the observed
text alone is compared there [I].
"""

from jaxtyping import Float
from torch import Tensor

from dante.errors import DanteError
from dante.losses.distillation.divergences import JSD, Pair
from dante.losses.schedule import Schedule
from dante.losses.spans.merged import Merged, MergedSpans
from dante.losses.spans.uld import checked_most, sorted_distance


class GOLD(MergedSpans):
    """Sum over the spans of both parts, over supervised tokens.

    Args:
        weight: λ(progress).
        beta: β of the matched part, between 0 and 1.
        matched_share: w; null: the share of the teacher's vocabulary that is matched.
        most: tokens of each side's unmatched ones that count one by one, or null: all.
        name: key in the recipe.

    Raises:
        DanteError: β or w is outside, or `most` is below 1.
    """

    def __init__(
        self, weight: Schedule, beta: float, matched_share: float | None, most: int | None, name: str = ""
    ) -> None:
        super().__init__(weight, name)
        if not 0 < beta < 1:
            raise DanteError(
                f"beta is {beta:g}",
                where=f"losses.{self.name}.beta",
                allowed="a number between 0 and 1; the forward KL with a bucket for the rest: loss=[ce,matched_kl]",
                fix=f"losses.{self.name}.beta=0.5",
            )
        if matched_share is not None and not 0 <= matched_share <= 1:
            raise DanteError(
                f"matched_share is {matched_share:g}",
                where=f"losses.{self.name}.matched_share",
                allowed="a number in [0, 1], or null: the share of the teacher's vocabulary that the student has",
                fix=f"losses.{self.name}.matched_share=null",
            )
        self.divergence, self.matched_share = JSD(beta), matched_share
        self.most = checked_most(most, self.name)

    def sentence(self) -> str:
        return (
            f"{self.name} is {self.divergence.symbol} at the spans that both tokenizers end together, on the tokens "
            "that both have, and the distance of sorted probabilities on all others."
        )

    def measure(self, merged: Merged) -> tuple[Float[Tensor, " spans"], Float[Tensor, "spans vocab"]]:
        share = self.matched_share
        if share is None:
            share = len(merged.matched.theirs) / merged.theirs.shape[1]
        matched = merged.matched if merged.one_token else None
        if matched is not None:
            pair = Pair(merged.theirs[:, matched.theirs], merged.ours[:, matched.ours])
        else:
            pair = Pair(*merged.observed)
        value_C, slope_CM = self.divergence.measure(pair)
        # A probability of nothing takes no part in a sort: it stands behind all others on either side.
        theirs_CV, ours_CV = merged.theirs.exp(), merged.ours.exp()
        if matched is not None:
            theirs_CV[:, matched.theirs], ours_CV[:, matched.ours] = 0.0, 0.0
        else:
            theirs_CV.scatter_(1, merged.their_last[:, None], 0.0)
            ours_CV.scatter_(1, merged.our_last[:, None], 0.0)
        rest_C, slope_CV = sorted_distance(theirs_CV, ours_CV, self.most)
        slope_CV.mul_(1.0 - share)
        if matched is not None:
            slope_CV[:, matched.ours] = share * slope_CM
        else:
            slope_CV.scatter_(1, merged.our_last[:, None], share * slope_CM)
        return share * value_C + (1.0 - share) * rest_C, slope_CV
