"""Divergences D(p ‖ q) of the student's next-token distribution q from the teacher's p, with their gradients.

| class | D | ∂D/∂q_i |
|---|---|---|
| `ForwardKL` | Σ p log(p/q) | −p/q |
| `ReverseKL` | Σ q log(q/p) | log(q/p) + 1 |
| `JSD(β)` | β KL(p ‖ m) + (1−β) KL(q ‖ m), m = βp + (1−β)q | (1−β) log(q/m) |
| `SkewKL(λ)` | KL(p ‖ m), m = λp + (1−λ)q | −(1−λ) p/m |
| `SkewReverseKL(λ)` | KL(q ‖ m), m = λq + (1−λ)p | log(q/m) + 1 − λ q/m |
| `AdaptiveKL(μ)` | (g_h KL(p ‖ q) + g_t KL(q ‖ p)) / (g_h + g_t) | g held fixed |
| `TotalVariation` | ½ Σ |p − q| | ½ sign(q − p) |

JSD(β) is GKD's (Agarwal et al. 2024 [C]): it vanishes at β = 0 and 1, where the forward and the reverse KL stand, as in
TRL [C]: JSD/β → KL(p ‖ q) and JSD/(1−β) → KL(q ‖ p). Skew KL is DistiLLM's (Ko et al. 2024 [S]), adaptive KL that of Wu
et al. 2024 ("Rethinking Kullback-Leibler Divergence in Knowledge Distillation for Large Language Models" [S]): g is
Σ |p − q| over the teacher's head (its most likely tokens, as long as the mass before them is below μ) and over the
rest, and no gradient goes through it, as in its code.

All in nats. A divergence gives D and its *slope* s_i = q_i ∂D/∂q_i; with u = z/T the logits over the temperature

    ∂D/∂u_i = s_i − q_i Σ_j s_j

and the loss is T² D(p_T ‖ q_T), whose gradient with respect to the logits z is T ∂D/∂u: value and gradient keep one
size at any temperature (Hinton et al. 2015 [C]).

Ids that only one of two vocabularies has are padding: both sides are renormalised over those that both have, which is
what −∞ in their logits means. Zero there would give padding the probability of a real token.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dante.errors import DanteError


@dataclass(frozen=True)
class Pair:
    """Teacher's and student's distributions of some tokens.

    Attributes:
        log_p: of the teacher; finite.
        log_q: of the student.
    """

    log_p: Float[Tensor, "rows vocab"]
    log_q: Float[Tensor, "rows vocab"]

    @classmethod
    def of(
        cls, teacher: Float[Tensor, "rows vocab"], student: Float[Tensor, "rows vocab"], temperature: float
    ) -> "Pair":
        """From logits."""
        if temperature != 1.0:
            teacher, student = teacher / temperature, student / temperature
        return cls(teacher.log_softmax(-1), student.log_softmax(-1))

    @cached_property
    def p(self) -> Float[Tensor, "rows vocab"]:
        return self.log_p.exp()

    @cached_property
    def q(self) -> Float[Tensor, "rows vocab"]:
        return self.log_q.exp()

    @cached_property
    def forward_kl(self) -> Float[Tensor, " rows"]:
        """KL(p ‖ q)."""
        return torch.linalg.vecdot(self.p, self.log_p - self.log_q)

    @cached_property
    def reverse_kl(self) -> Float[Tensor, " rows"]:
        """KL(q ‖ p)."""
        return torch.linalg.vecdot(self.q, self.log_q - self.log_p)

    def log_mixture(self, teacher_share: float) -> Float[Tensor, "rows vocab"]:
        """log of `teacher_share` · p + (1 − `teacher_share`) · q, a share between 0 and 1."""
        return torch.logaddexp(self.log_p + _log(teacher_share), self.log_q + _log(1.0 - teacher_share))


class Divergence(ABC):
    """D(p ‖ q), zero where both are equal."""

    #: As reports write it.
    symbol: str

    @abstractmethod
    def measure(self, pair: Pair) -> tuple[Float[Tensor, " rows"], Float[Tensor, "rows vocab"]]:
        """D of every row, and its slope q_i ∂D/∂q_i, a new tensor."""

    def with_gradient(
        self, pair: Pair, temperature: float
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, "rows vocab"]]:
        """T² D of every row, and its gradient with respect to the student's logits before they are divided by T."""
        value_R, slope_RV = self.measure(pair)
        gradient_RV = slope_RV.addcmul_(pair.q, slope_RV.sum(-1, keepdim=True), value=-1.0)
        return value_R * temperature**2, gradient_RV if temperature == 1.0 else gradient_RV.mul_(temperature)


class ForwardKL(Divergence):
    """KL(teacher ‖ student): covers whatever the teacher finds possible."""

    symbol = "KL(teacher ‖ student)"

    def measure(self, pair: Pair) -> tuple[Tensor, Tensor]:
        return pair.forward_kl, -pair.p


class ReverseKL(Divergence):
    """KL(student ‖ teacher): keeps to what the teacher finds likely."""

    symbol = "KL(student ‖ teacher)"

    def measure(self, pair: Pair) -> tuple[Tensor, Tensor]:
        # The constant 1 of the derivative is the same for all entries: it leaves softmax's gradient alone.
        return pair.reverse_kl, pair.q * (pair.log_q - pair.log_p)


class JSD(Divergence):
    """Generalised Jensen-Shannon divergence, the forward KL at β = 0 and the reverse KL at β = 1.

    Args:
        beta: weight β of KL(teacher ‖ mixture), and the teacher's share of the mixture; in [0, 1].
    """

    def __init__(self, beta: float) -> None:
        self.beta = _share("beta", beta, 0 <= beta <= 1, "a number in [0, 1]")
        self.symbol = f"JSD(β = {beta:g})"
        self._end = {0.0: ForwardKL(), 1.0: ReverseKL()}.get(self.beta)

    def measure(self, pair: Pair) -> tuple[Tensor, Tensor]:
        if self._end is not None:
            return self._end.measure(pair)
        log_m = pair.log_mixture(self.beta)
        student_RV = pair.q * (pair.log_q - log_m)
        teacher_R = torch.linalg.vecdot(pair.p, pair.log_p - log_m)
        return self.beta * teacher_R + (1 - self.beta) * student_RV.sum(-1), (1 - self.beta) * student_RV


class SkewKL(Divergence):
    """KL(teacher ‖ mixture): a forward KL that stays finite where the student has no mass.

    Args:
        skew: λ, the teacher's share of the mixture; in [0, 1).
    """

    def __init__(self, skew: float) -> None:
        self.skew = _share("skew", skew, 0 <= skew < 1, "a number in [0, 1)")
        self.symbol = f"KL(teacher ‖ {skew:g} teacher + {1 - skew:g} student)"

    def measure(self, pair: Pair) -> tuple[Tensor, Tensor]:
        log_m = pair.log_mixture(self.skew)
        slope_RV = (pair.log_p + pair.log_q - log_m).exp_().mul_(self.skew - 1.0)
        return torch.linalg.vecdot(pair.p, pair.log_p - log_m), slope_RV


class SkewReverseKL(Divergence):
    """KL(student ‖ mixture): a reverse KL that stays finite where the teacher has no mass.

    Args:
        skew: λ, the student's share of the mixture; in [0, 1).
    """

    def __init__(self, skew: float) -> None:
        self.skew = _share("skew", skew, 0 <= skew < 1, "a number in [0, 1)")
        self.symbol = f"KL(student ‖ {skew:g} student + {1 - skew:g} teacher)"

    def measure(self, pair: Pair) -> tuple[Tensor, Tensor]:
        log_m = pair.log_mixture(1.0 - self.skew)
        value_RV = pair.q * (pair.log_q - log_m)
        slope_RV = value_RV - (2 * pair.log_q - log_m).exp_().mul_(self.skew)
        return value_RV.sum(-1), slope_RV


class AdaptiveKL(Divergence):
    """Forward and reverse KL, weighted by how far both are apart in the teacher's head and in its tail.

    Args:
        head: μ, the teacher's mass in its head; in (0, 1).
    """

    def __init__(self, head: float) -> None:
        self.head = _share("head", head, 0 < head < 1, "a number in (0, 1)")
        self.symbol = f"adaptive KL (head {head:g})"

    def measure(self, pair: Pair) -> tuple[Tensor, Tensor]:
        apart_RV = (pair.p - pair.q).abs()
        in_head_RV = self._in_head(pair.p)
        head_R = (apart_RV * in_head_RV).sum(-1)
        all_R = apart_RV.sum(-1)
        # Where both are equal there is nothing to weigh: both divergences and their gradients are zero.
        share_R = torch.where(all_R > 0, head_R / all_R.clamp_min(torch.finfo(all_R.dtype).tiny), 0.0)
        _, forward_RV = ForwardKL().measure(pair)
        _, reverse_RV = ReverseKL().measure(pair)
        value_R = share_R * pair.forward_kl + (1 - share_R) * pair.reverse_kl
        return value_R, torch.lerp(reverse_RV, forward_RV, share_R[:, None])

    def _in_head(self, p_RV: Tensor) -> Bool[Tensor, "rows vocab"]:
        sorted_RV, order_RV = p_RV.sort(dim=-1, descending=True)
        before_RV = sorted_RV.cumsum(-1) - sorted_RV
        return torch.zeros_like(p_RV, dtype=torch.bool).scatter_(-1, order_RV, before_RV < self.head)


class TotalVariation(Divergence):
    """½ Σ |teacher − student|, in [0, 1]."""

    symbol = "total variation"

    def measure(self, pair: Pair) -> tuple[Tensor, Tensor]:
        apart_RV = pair.q - pair.p
        return 0.5 * apart_RV.abs().sum(-1), apart_RV.sign_().mul_(pair.q).mul_(0.5)


def _log(share: float) -> float:
    return torch.tensor(share, dtype=torch.float64).log().item()


def _share(name: str, value: float, holds: bool, allowed: str) -> float:
    if not holds:
        raise DanteError(f"{name} is {value:g}", where=f"divergence.{name}", allowed=allowed, fix="choose such a one")
    return float(value)
