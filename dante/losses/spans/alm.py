"""Approximate likelihood matching: how likely the student finds a piece of text, against how likely the teacher does.

    ℓ_c = u log(u/v) + (1−u) log((1−u)/(1−v))       u = e^{ℓ_T/τ},  v = e^{ℓ_S/τ}        (arXiv 2503.20083 [C])

c are the byte-aligned spans of an answer (`dante.text.tokens.spans`); ℓ_T and ℓ_S are the sums of the log-probabilities
of the teacher's and of the student's tokens in c, so that both speak of the same bytes whatever their tokens are. The
binary KL is zero exactly where both agree (the published code has the cross-entropy: the same gradient [C]). It needs
only the log-probabilities of the tokens that the teacher chose and where they end, which a cache keeps: no teacher in
the loop.

    L = (1/N) Σ_c ℓ_c          ∂ℓ_c/∂ℓ_S = (v − u) / (τ (1 − v))

N is the supervised tokens of the optimizer step, as for every token loss here [I]. Where the student finds a span less
likely than the teacher, the gradient is at most 1/τ a token, where cross-entropy's is 1 (where it finds it likelier, at
most |ℓ_T|/τ): a weight of τ makes them comparable [I]. The end of a turn is in no span, since what ends
one differs between models: it is learnt from cross-entropy beside this loss.

Metrics: `gap_nats`, Σ_c |ℓ_T − ℓ_S| / N, in nats per token.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dante.losses.base import LinearLoss
from dante.losses.distillation.temperature import checked_temperature
from dante.losses.schedule import Schedule
from dante.losses.spans.tile import SpanTile
from dante.losses.tokens import Need, SupervisedTokens
from dante.losses.vocabulary.tile import Tile

# A likelihood of one, as nearly as the quotient of two rests bears it; kept log-probabilities have four decimals.
_LEAST = 1e-9


class ALM(LinearLoss):
    """Sum of the spans' binary KL over supervised tokens.

    Args:
        weight: λ(progress).
        temperature: τ > 0.
        name: key in the recipe.

    Raises:
        DanteError: a temperature that is not above 0.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"spans"})
    needs_logits = False

    def __init__(self, weight: Schedule, temperature: float, name: str = "") -> None:
        super().__init__(weight, name)
        self.temperature = checked_temperature(temperature, self.name, usual=100.0)

    def sentence(self) -> str:
        return (
            f"{self.name} holds the student's likelihood of every span that both tokenizers end together against the "
            f"teacher's, at temperature {self.temperature:g}."
        )

    def on_tile(self, tile: Tile, coefficients: Float[Tensor, " tile"]) -> Float[Tensor, " tile"]:
        said = tile.tokens.teacher.spans
        spans = SpanTile(tile, said.tokens)
        ours_S, theirs_S = spans.summed(tile.label_log_probability), said.log_likelihood[spans.chosen]
        value_S, slope_S = binary_kl(theirs_S, ours_S, self.temperature)
        tile.keep("gap", spans.shares((theirs_S - ours_S).abs()))
        if tile.wants_gradient:
            gradient_T = spans.at_tokens(spans.coefficients(coefficients) * slope_S)
            tile.add_label(gradient_T)  # ∂ log p(label)/∂z = onehot(label) − p
            tile.add_probability(-gradient_T)
        return spans.shares(value_S)

    def metrics(
        self, tokens: SupervisedTokens, values: Float[Tensor, " tokens"], kept: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        gap = kept["gap"].sum() if "gap" in kept else values.sum()
        return {"gap_nats": gap / tokens.step_tokens}


def binary_kl(
    theirs: Float[Tensor, " spans"], ours: Float[Tensor, " spans"], temperature: float
) -> tuple[Float[Tensor, " spans"], Float[Tensor, " spans"]]:
    """KL of two events of log-likelihoods ℓ_T/τ and ℓ_S/τ, and its derivative with respect to ℓ_S.

    Computed from 1 − e^x = −expm1(x): with τ = 100 u and v lie near one, where 1 − u has no digits left.
    """
    log_u, log_v = (side.clamp_max(-_LEAST * temperature) / temperature for side in (theirs, ours))
    rest_u, rest_v = -torch.expm1(log_u), -torch.expm1(log_v)
    value = log_u.exp() * (log_u - log_v) + rest_u * (rest_u.log() - rest_v.log())
    return value, (rest_u - rest_v) / (temperature * rest_v)
