"""Logits of one tile and the sums that a softmax needs, in buffers that the caller owns."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dante.losses.matmul import Matmul


@dataclass(frozen=True)
class SoftmaxSums:
    """Per token: Σ_v exp(z_v − max), log Σ_v exp(z_v), log p(label)."""

    exp_sum: Float[Tensor, " tile"]
    log_z: Float[Tensor, " tile"]
    label_log_probability: Float[Tensor, " tile"]


def project(
    matmul: Matmul, softcap: float | None, hidden_TD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, out: Tensor
) -> None:
    """Logits of one tile (operands already prepared) into `out`."""
    matmul.product(hidden_TD, weight_VD.T, out=out)
    if bias_V is not None:
        out.add_(bias_V)
    if softcap is not None:
        out.div_(softcap).tanh_().mul_(softcap)


def softmax_sums(logits_TV: Tensor, labels_T: Int64[Tensor, " tile"], out: Tensor) -> SoftmaxSums:
    """Normalisers of each row; `out` becomes exp(z − max) and may be `logits_TV` itself."""
    top_T = logits_TV.amax(dim=1)
    label_logit_T = logits_TV.gather(1, labels_T[:, None])[:, 0]
    torch.sub(logits_TV, top_T[:, None], out=out).exp_()
    exp_sum_T = out.sum(dim=1)
    log_z_T = top_T + exp_sum_T.log()
    return SoftmaxSums(exp_sum_T, log_z_T, label_logit_T - log_z_T)
