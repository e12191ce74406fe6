"""Logit distillation: the student's distribution against the whole one of a live teacher, token by token.

    L = (1/N) Σ_t T² D(p_T(·|x_<t) ‖ q_T(·|x_<t))          ∂ℓ/∂z = T ∂D/∂(z/T)

p and q are softmax(logits / T) of teacher and student over the vocabulary that both share. D is a part
(`dante.losses.distillation.divergences`); the forward KL is Laguna-dense's stage 2 [C]. N is the supervised tokens of
the optimizer step: with chat rendering the assistant's, end of turn included [C] (`chat_kl`), with raw rendering every
token of the text (`raw_kl`, the control that the Laguna-dense card reports as a failure [C]).

The teacher's logits are made tile by tile from its hidden states: no [tokens, vocab] tensor lives whole on either side.
Temperature scales value and gradient alike.

Metrics: `kl_nats`, the forward KL(teacher ‖ student) at temperature 1 in nats per token, whatever D is, and
`agreement`, the share of tokens whose most likely next token is the teacher's.
"""

from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from dante.losses.base import LinearLoss
from dante.losses.distillation.divergences import Divergence, Pair
from dante.losses.distillation.temperature import checked_temperature
from dante.losses.schedule import Schedule
from dante.losses.tokens import Need, SupervisedTokens
from dante.losses.vocabulary.projection import cached_rows
from dante.losses.vocabulary.tile import Tile


class LogitDistillation(LinearLoss):
    """Mean divergence from a live teacher over supervised tokens, nats per token.

    Args:
        weight: λ(progress).
        divergence: D.
        temperature: T > 0; value and gradient are those of T² D.
        name: key in the recipe.

    Raises:
        DanteError: a temperature that is not above 0.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher_logits"})

    def __init__(self, weight: Schedule, divergence: Divergence, temperature: float, name: str = "") -> None:
        super().__init__(weight, name)
        self.divergence = divergence
        self.temperature = checked_temperature(temperature, self.name, usual=1.0)

    def sentence(self) -> str:
        warmth = "" if self.temperature == 1.0 else f" at temperature {self.temperature:g}"
        return f"{self.name} is {self.divergence.symbol}{warmth}, over the whole vocabulary of the live teacher."

    def on_tile(self, tile: Tile, coefficients: Float[Tensor, " tile"]) -> Float[Tensor, " tile"]:
        shared = min(tile.tokens.teacher.logits.vocabulary, tile.logits.shape[1])
        student_TV, teacher_TV = tile.logits[:, :shared], tile.teacher_logits[:, :shared]
        values_T, kl_T, agrees_T = tile.zero(), tile.zero(), tile.zero()
        gradient_TV = tile.logits.new_empty(tile.logits.shape) if tile.wants_gradient else None
        for rows in cached_rows(student_TV):
            pair = Pair.of(teacher_TV[rows], student_TV[rows], self.temperature)
            values_T[rows], gradient_RV = self.divergence.with_gradient(pair, self.temperature)
            plain = pair if self.temperature == 1.0 else Pair.of(teacher_TV[rows], student_TV[rows], 1.0)
            kl_T[rows] = plain.forward_kl
            agrees_T[rows] = (pair.log_p.argmax(-1) == pair.log_q.argmax(-1)).to(agrees_T)
            if gradient_TV is not None:
                gradient_TV[rows, :shared] = gradient_RV.mul_(coefficients[rows, None])
                gradient_TV[rows, shared:] = 0.0
        tile.keep("kl", kl_T)
        tile.keep("agrees", agrees_T)
        if gradient_TV is not None:
            tile.add_gradient(gradient_TV)
        return values_T

    def metrics(
        self, tokens: SupervisedTokens, values: Float[Tensor, " tokens"], kept: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        if not kept:  # a micro-batch without supervised tokens
            return {"kl_nats": values.sum(), "agreement": values.sum()}
        return {
            "kl_nats": kept["kl"].sum() / tokens.step_tokens,
            "agreement": kept["agrees"].sum() / tokens.step_tokens,
        }
