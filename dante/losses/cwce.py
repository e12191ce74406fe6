"""CWCE: confidence-weighted cross-entropy (DANTE-Mosaic-3.5B card).

    L_CWCE = (1/N) Σ_i w(H_i) · CE_masked(x_i, y_i)          w(H) = 0.30 + 0.70 / (1 + exp(1.5·(H − 1.5)))   [C]

H_i is the teacher's `output_entropy` of record i in nats per token [I: the card gives no unit; a sum over the answer
would saturate w at 0.30], so an answer the teacher was sure of counts up to three times as much as one it guessed.
Prompt tokens are masked [C].

The card's N and i are ambiguous (its i runs over responses, its CE over tokens), hence `normalise` [I]:

- `tokens`: w weighs tokens, N = supervised tokens of the optimizer step;
- `records`: the mean over each response's tokens, then over the step's responses.

Reference values: w(0) = 0.9333, w(0.5) = 0.872, w(1.5) = 0.65, w(3) = 0.367. At typical entropies (H < 0.5) w is nearly
constant, and Adam ignores a constant factor: compare with plain CE before believing in it.

Metrics: `mean_weight`, the mean of w under the same normalisation.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from dante.errors import DanteError
from dante.losses.ce import CE
from dante.losses.schedule import Schedule
from dante.losses.tokens import SupervisedTokens

NORMALISATIONS = ("tokens", "records")


def confidence_weight(
    entropy: Float[Tensor, "*shape"], floor: float, slope: float, midpoint: float
) -> Float[Tensor, "*shape"]:
    """w(H) = floor + (1 − floor) / (1 + exp(slope·(H − midpoint))); H in nats per token."""
    return floor + (1.0 - floor) * torch.sigmoid(-slope * (entropy - midpoint))


class CWCE(CE):
    """Cross-entropy weighted by the teacher's confidence in each record.

    Args:
        weight: λ(progress).
        normalise: `tokens` or `records`.
        floor: limit of w at high entropy (card: 0.30); the limit at low entropy is 1.
        slope: steepness, per nat (card: 1.5).
        midpoint: entropy in nats per token where w is halfway (card: 1.5).
        name: key in the recipe.

    Raises:
        DanteError: unknown `normalise`.
    """

    def __init__(
        self, weight: Schedule, normalise: str, floor: float, slope: float, midpoint: float, name: str = ""
    ) -> None:
        super().__init__(weight, name)
        if normalise not in NORMALISATIONS:
            raise DanteError(
                f"normalise is {normalise!r}",
                where=f"losses.{self.name}.normalise",
                allowed=" or ".join(NORMALISATIONS),
            )
        self.normalise = normalise
        self.floor, self.slope, self.midpoint = floor, slope, midpoint

    def coefficients(self, tokens: SupervisedTokens) -> Float[Tensor, " tokens"]:
        entropy = tokens.per_token("output_entropy")
        weight = confidence_weight(entropy, self.floor, self.slope, self.midpoint)
        return weight * self._share(tokens)

    def _share(self, tokens: SupervisedTokens) -> Float[Tensor, " tokens"]:
        """Each token's share of the mean: over all tokens of the step these add up to one."""
        if self.normalise == "tokens":
            return tokens.uniform()
        return 1.0 / (tokens.per_token("supervised_tokens") * tokens.step_records)

    def metrics(
        self, tokens: SupervisedTokens, values: Float[Tensor, " tokens"], kept: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return {"mean_weight": self.coefficients(tokens).sum()}
