"""The vocabulary pass without gradients, for evaluation: what a model says of given labels, tile by tile.

Beside the label's log-probability every token gets the most likely token and its probability (calibration) and the
entropy of the whole next-token distribution, and, where a reference model of the same vocabulary is given by its hidden
states, the full forward KL(reference ‖ model), the reference's own most likely token, its probability and its entropy.
A reference kept as hidden states [tokens, width] is exact and as small as activations; its logits live one tile at a
time, like everyone's.

Shape suffixes as in `dante.losses.one_pass`: N tokens, T tokens of one tile, V vocabulary, D width.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dante.errors import DanteError
from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.projection import Projection, softmax_sums
from dante.losses.vocabulary.tile import auto_tile_tokens


@dataclass(frozen=True)
class Reference:
    """Another model's side of the same tokens: its LM head, and its hidden states at the same positions."""

    head: Head
    hidden: Float[Tensor, "tokens reference_width"]


@dataclass(frozen=True)
class TokenScores:
    """Per token, in nats; fp32 (fp64 for fp64 inputs).

    Attributes:
        log_probability: log p(label).
        argmax: id of the most likely token.
        confidence: probability of the most likely token.
        entropy: H = −Σ_v p_v log p_v of the next-token distribution, between 0 and log V.
        is_argmax: the label is the most likely token.
        kl: KL(reference ‖ model) over the whole vocabulary, or None without a reference.
        agrees: the reference's most likely token is this model's, or None.
        reference_argmax: the reference's most likely token, or None.
        reference_confidence: its probability under the reference, or None.
        reference_entropy: the entropy of the reference's next-token distribution, or None.
        rank: place of the label in the distribution, 1 is the most likely token; or None where it was not asked for.
    """

    log_probability: Float[Tensor, " tokens"]
    argmax: Int64[Tensor, " tokens"]
    confidence: Float[Tensor, " tokens"]
    entropy: Float[Tensor, " tokens"]
    is_argmax: Bool[Tensor, " tokens"]
    kl: Float[Tensor, " tokens"] | None = None
    agrees: Bool[Tensor, " tokens"] | None = None
    reference_argmax: Int64[Tensor, " tokens"] | None = None
    reference_confidence: Float[Tensor, " tokens"] | None = None
    reference_entropy: Float[Tensor, " tokens"] | None = None
    rank: Int64[Tensor, " tokens"] | None = None

    @staticmethod
    def dtypes(floating: torch.dtype, compared: bool, ranks: bool = False) -> dict[str, torch.dtype]:
        """Every quantity that is known, by name, with its dtype; `compared`: beside a reference."""
        own = {"log_probability": floating, "argmax": torch.int64, "confidence": floating, "entropy": floating,
               "is_argmax": torch.bool}  # fmt: skip
        beside = {"kl": floating, "agrees": torch.bool, "reference_argmax": torch.int64,
                  "reference_confidence": floating, "reference_entropy": floating}  # fmt: skip
        return own | (beside if compared else {}) | ({"rank": torch.int64} if ranks else {})


@torch.no_grad()
def token_scores(
    head: Head,
    hidden: Float[Tensor, "tokens width"],
    labels: Int64[Tensor, " tokens"],
    reference: Reference | None = None,
    matmul_dtype: torch.dtype | None = None,
    tile_tokens: int | None = None,
    ranks: bool = False,
) -> TokenScores:
    """Score given labels with an LM head.

    Args:
        head: of the model that is scored.
        hidden: its hidden states at the positions that predict the labels.
        labels: token ids.
        reference: the other model's side of the same tokens, for KL and agreement.
        matmul_dtype: dtype that operands of matrix products are rounded to; None: the weight's own.
        tile_tokens: tokens per tile; None chooses by memory.
        ranks: give the labels' ranks, too, which takes another look at every tile.

    Raises:
        DanteError: the reference has another vocabulary.
    """
    if reference is not None and reference.head.weight.shape[0] != head.weight.shape[0]:
        raise DanteError(
            f"the reference's vocabulary has {reference.head.weight.shape[0]} entries, the model's "
            f"{head.weight.shape[0]}",
            where="KL divergence",
            allowed="models with one vocabulary",
        )
    tokens, device = hidden.shape[0], hidden.device
    tile_tokens = min(tile_tokens or auto_tile_tokens(head.weight.shape[0], device), max(tokens, 1))
    model = Projection(head, matmul_dtype, hidden.dtype)
    other = Projection(reference.head, matmul_dtype, reference.hidden.dtype) if reference else None
    parts: list[TokenScores] = []
    with torch.autocast(device.type, enabled=False):
        for start in range(0, tokens, tile_tokens):
            rows = slice(start, min(start + tile_tokens, tokens))
            reference_TV = other.logits(reference.hidden[rows]) if other and reference else None
            parts.append(_score_tile(model.logits(hidden[rows]), labels[rows], reference_TV, ranks))
    return _joined(parts, model.dtype, device, reference is not None, ranks)


def _score_tile(logits_TV: Tensor, labels_T: Tensor, reference_TV: Tensor | None, ranks: bool) -> TokenScores:
    """Overwrites both tiles."""
    top_T, argmax_T = logits_TV.max(dim=1)
    rank_T = 1 + (logits_TV > logits_TV.gather(1, labels_T[:, None])).sum(dim=1) if ranks else None
    if reference_TV is None:
        sums = softmax_sums(logits_TV, labels_T, out=logits_TV, entropy=True)
        compared = {}
    else:
        reference_top_T, reference_argmax_T = reference_TV.max(dim=1)
        # Σ p log(p/q) = Σ p (u − z) − log Z_u + log Z_z, u and z the reference's and the model's logits.
        difference_TV = reference_TV - logits_TV
        sums = softmax_sums(logits_TV, labels_T, out=logits_TV, entropy=True)
        reference_sums = softmax_sums(reference_TV, labels_T, out=reference_TV, entropy=True)
        expected_T = (reference_TV * difference_TV).sum(dim=1) / reference_sums.exp_sum
        compared = {
            "kl": expected_T - reference_sums.log_z + sums.log_z,
            "agrees": reference_argmax_T == argmax_T,
            "reference_argmax": reference_argmax_T,
            "reference_confidence": (reference_top_T - reference_sums.log_z).exp(),
            "reference_entropy": reference_sums.entropy,
        }
    assert sums.entropy is not None
    return TokenScores(
        log_probability=sums.label_log_probability,
        argmax=argmax_T,
        confidence=(top_T - sums.log_z).exp(),
        entropy=sums.entropy,
        is_argmax=argmax_T == labels_T,
        rank=rank_T,
        **compared,
    )


def _joined(
    parts: list[TokenScores], dtype: torch.dtype, device: torch.device, compared: bool, ranks: bool
) -> TokenScores:
    def joined(name: str, kind: torch.dtype) -> Tensor:
        tensors = [getattr(part, name) for part in parts]
        return torch.cat(tensors) if tensors else torch.empty(0, dtype=kind, device=device)

    return TokenScores(
        **{name: joined(name, kind) for name, kind in TokenScores.dtypes(dtype, compared, ranks).items()}
    )
