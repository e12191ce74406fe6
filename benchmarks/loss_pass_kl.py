"""Ways to the forward KL from a live teacher's hidden states: the part of `loss_pass_child.py` with `--teacher-hidden`.

Every way is given both models' hidden states and LM heads and must leave the gradient of the mean KL(teacher ‖ student)
in the student's two. The teacher's are in the precision's dtype, as a frozen one's are, and get no gradient.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dante.losses.distillation.divergences import ForwardKL
from dante.losses.distillation.logits import LogitDistillation
from dante.losses.one_pass import vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.tokens import SupervisedTokens, TeacherSide
from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.projection import Projection
from dante.losses.vocabulary.teacher import HiddenLogits


@dataclass(frozen=True)
class Teacher:
    """What a live teacher gives the loss.

    Attributes:
        hidden: its hidden states, [tokens, teacher_hidden].
        weight: its LM head, [vocab, teacher_hidden].
    """

    hidden: Tensor
    weight: Tensor

    @classmethod
    def random(cls, tokens: int, hidden: int, vocab: int, options: dict[str, Any], generator: torch.Generator) -> Any:
        """Normal hidden states, and logits of variance one."""
        states = torch.randn(tokens, hidden, generator=generator)
        weight = torch.randn(vocab, hidden, generator=generator).mul_(hidden**-0.5)
        return cls(states.to(**options), weight.to(**options))


def ours(job: Any, hidden: Tensor, weight: Tensor, teacher: Teacher) -> Tensor:
    """The lab's vocabulary pass, as the training step calls it."""
    loss = LogitDistillation(Constant(1.0), ForwardKL(), 1.0, "kl")
    logits = HiddenLogits(Projection(Head(teacher.weight), None, teacher.hidden.dtype), teacher.hidden)
    labels = torch.zeros(job.tokens, dtype=torch.int64, device=hidden.device)
    tokens = SupervisedTokens(labels, labels, {}, job.tokens, 1, TeacherSide(maybe_logits=logits))
    return vocabulary_pass(hidden, Head(weight), [loss], {"kl": 1.0}, tokens, job.dtype, None).total


def naive(job: Any, hidden: Tensor, weight: Tensor, teacher: Teacher) -> Tensor:
    """Whole logits of both, fp32 log-softmax, torch's `kl_div`."""
    with job.autocast():
        student_logits = functional.linear(hidden, weight)
        with torch.no_grad():
            teacher_logits = functional.linear(teacher.hidden, teacher.weight)
    log_q, log_p = (logits.float().log_softmax(-1) for logits in (student_logits, teacher_logits))
    return functional.kl_div(log_q, log_p, reduction="sum", log_target=True) / job.tokens


def trl(job: Any, hidden: Tensor, weight: Tensor, teacher: Teacher) -> Tensor:
    """TRL's chunked divergence, β = 0, with the chunks that it chooses itself; without Triton its torch fallback."""
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    with job.autocast():
        found = ChunkedDivergenceFunction.apply(hidden, weight, None, teacher.hidden, teacher.weight, None, 0.0)
    return found[0].mean()


WAYS = {"ours_kl": ours, "naive_kl": naive, "trl_kl": trl}
