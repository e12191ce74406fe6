"""Logits of one tile and the sums that a softmax needs, in buffers that the caller owns."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.matmul import Matmul

# Half a megabyte of rows lies in a core's second-level cache beside what else is read; measured at V = 49,152 and
# 128,256, rows of the whole tile take two and a half times as long.
_CACHE_BYTES = 512 * 2**10


@dataclass(frozen=True)
class SoftmaxSums:
    """What one sweep over a tile's logits finds, per token.

    Attributes:
        exp_sum: Σ_v exp(z_v − max).
        log_z: log Σ_v exp(z_v).
        label_log_probability: log p(label).
        label_is_argmax: no token is more likely than the label.
        entropy: −Σ_v p_v log p_v in nats, where it was asked for.
    """

    exp_sum: Float[Tensor, " tile"]
    log_z: Float[Tensor, " tile"]
    label_log_probability: Float[Tensor, " tile"]
    label_is_argmax: Bool[Tensor, " tile"]
    entropy: Float[Tensor, " tile"] | None


class Projection:
    """A model's LM head as an operand of products, prepared once: hidden states → logits, without gradients.

    Args:
        head: of the model.
        matmul_dtype: dtype that operands are rounded to; None: the weight's own.
        hidden_dtype: of the hidden states.
    """

    def __init__(self, head: Head, matmul_dtype: torch.dtype | None, hidden_dtype: torch.dtype) -> None:
        weight = head.weight.detach()
        self.dtype = torch.promote_types(hidden_dtype, torch.float32)
        self.softcap, self.multiplier, self.vocabulary = head.softcap, head.multiplier, weight.shape[0]
        self.matmul = Matmul(matmul_dtype or weight.dtype, weight.device)
        self.weight_VD = self.matmul.operand(weight, self.dtype)
        self.bias_V = head.bias.detach().to(self.dtype) if head.bias is not None else None
        self._buffer: Tensor | None = None

    def write(self, hidden: Float[Tensor, "tile width"], out: Float[Tensor, "tile vocab"]) -> None:
        """Write the logits of a few tokens."""
        hidden_TD = self.matmul.operand(hidden.detach().to(self.dtype) * self.multiplier, self.dtype)
        with torch.autocast(out.device.type, enabled=False):
            project(self.matmul, self.softcap, hidden_TD, self.weight_VD, self.bias_V, out=out)

    def logits(self, hidden: Float[Tensor, "tile width"]) -> Float[Tensor, "tile vocab"]:
        """The logits of a few tokens, in a buffer that the next call overwrites."""
        if self._buffer is None or len(self._buffer) < len(hidden):
            self._buffer = torch.empty(len(hidden), self.vocabulary, dtype=self.dtype, device=self.weight_VD.device)
        logits_TV = self._buffer[: len(hidden)]
        self.write(hidden, logits_TV)
        return logits_TV


def project(
    matmul: Matmul, softcap: float | None, hidden_TD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, out: Tensor
) -> None:
    """Logits of one tile (operands already prepared) into `out`."""
    matmul.product(hidden_TD, weight_VD.T, out=out)
    if bias_V is not None:
        out.add_(bias_V)
    if softcap is not None:
        out.div_(softcap).tanh_().mul_(softcap)


def softmax_sums(
    logits_TV: Tensor, labels_T: Int64[Tensor, " tile"], out: Tensor, entropy: bool = False
) -> SoftmaxSums:
    """Normalisers of each row; `out` becomes exp(z − max) and may be `logits_TV` itself.

    The entropy costs one more product of rows that lie in the cache: `H = log Σ exp(u) − Σ u exp(u) / Σ exp(u)`,
    u = z − max. All terms of the second sum are ≤ 0, so nothing cancels but what H itself is small by.
    """
    tops, sums, weighted = [], [], []
    label_logit_T = logits_TV.gather(1, labels_T[:, None])[:, 0]
    for rows in cached_rows(logits_TV):
        top_R = logits_TV[rows].amax(dim=1)
        if entropy:
            shifted_RV = logits_TV[rows] - top_R[:, None]
            torch.exp(shifted_RV, out=out[rows])
            weighted.append(torch.linalg.vecdot(out[rows], shifted_RV))
        else:
            torch.sub(logits_TV[rows], top_R[:, None], out=out[rows]).exp_()
        tops.append(top_R)
        sums.append(out[rows].sum(dim=1))
    top_T, exp_sum_T = torch.cat(tops), torch.cat(sums)
    log_sum_T = exp_sum_T.log()
    log_z_T = top_T + log_sum_T
    return SoftmaxSums(
        exp_sum=exp_sum_T,
        log_z=log_z_T,
        label_log_probability=label_logit_T - log_z_T,
        label_is_argmax=label_logit_T == top_T,
        entropy=log_sum_T - torch.cat(weighted) / exp_sum_T if entropy else None,
    )


def cached_rows(tile_TV: Tensor) -> list[slice]:
    """Rows of a tile to run one after the other through several passes: on a CPU few enough to stay in its cache."""
    tokens, vocab = tile_TV.shape
    count = max(1, _CACHE_BYTES // (vocab * tile_TV.element_size())) if tile_TV.device.type == "cpu" else tokens
    return [slice(start, min(start + count, tokens)) for start in range(0, tokens, max(count, 1))]
