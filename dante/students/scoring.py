"""How a model sees texts that it is shown: bits, hits, confidence, entropy and, beside a teacher of its vocabulary, KL.

The lab's main number is bits per byte of the teacher's held-out answers, comparable across tokenizers:
`bits_per_byte = sum_i NLL_i / (ln 2 * sum_i bytes_i)` over records i. NLL is the negative natural-log probability of
the supervised tokens: the answer *and* its end-of-turn token, for knowing when to stop is part of it. Bytes are the
UTF-8 bytes of `teacher_text` without white space at its ends (as the chat renderer defines an answer). It is a ratio of
totals, not a mean of per-item ratios: long answers weigh more. Definition [I]; bits per byte as in Gao et al., "The
Pile" (2020).

Teacher, initialisation and student take the same road: own tokenizer and chat template, backbone, the vocabulary pass
at supervised positions, float64 sums. Plain texts (`plain`) take it, too, without a template.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from dante.errors import DanteError
from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.scoring import Reference, TokenScores, token_scores
from dante.statistics.ratio import Ratio
from dante.text.chat import Rendered

# Tokens (padding included) of one forward pass, by kind of device. It bounds memory and changes no result. On a CPU the
# activations of a layer should stay in its cache: 4096 tokens take 10 to 50 % longer.
BATCH_TOKENS = {"cpu": 512, "cuda": 4096}


@dataclass(frozen=True)
class Beside:
    """The teacher's side of the same tokens.

    Attributes:
        kl: KL(teacher ‖ model) in nats.
        agrees: the teacher's most likely token is the model's.
        argmax: id of the teacher's most likely token.
        confidence: its probability under the teacher.
        entropy: entropy of the teacher's next-token distribution in nats.
    """

    kl: Float64[np.ndarray, "tokens"]
    agrees: Bool[np.ndarray, "tokens"]
    argmax: Int64[np.ndarray, "tokens"]
    confidence: Float64[np.ndarray, "tokens"]
    entropy: Float64[np.ndarray, "tokens"]


@dataclass(frozen=True)
class Scores:
    """What one model says of the supervised tokens of some items; tokens stand in the order of the items.

    Attributes:
        text_bytes: UTF-8 bytes of each item's text.
        record: row of the item that each token belongs to.
        nats: −log p of each token.
        argmax: id of the most likely token there.
        confidence: its probability.
        entropy: entropy of the model's next-token distribution there in nats.
        vocabulary: entries of its LM head; no entropy is above log(vocabulary).
        correct: the token is the most likely one.
        beside: the teacher's side of each token, or None without a teacher of this vocabulary.
        hidden: hidden states that predict the tokens, where they were asked for.
        rank: place of each token in the model's next-token distribution, from 1, where it was asked for.
    """

    text_bytes: Int64[np.ndarray, "items"]
    record: Int64[np.ndarray, "tokens"]
    nats: Float64[np.ndarray, "tokens"]
    argmax: Int64[np.ndarray, "tokens"]
    confidence: Float64[np.ndarray, "tokens"]
    entropy: Float64[np.ndarray, "tokens"]
    vocabulary: int
    correct: Bool[np.ndarray, "tokens"]
    beside: Beside | None
    hidden: Float[Tensor, "tokens width"] | None
    rank: Int64[np.ndarray, "tokens"] | None = None

    def per_item(self, values: np.ndarray) -> Float64[np.ndarray, "items"]:
        """Sum of a per-token quantity over each item."""
        return np.bincount(self.record, weights=values, minlength=len(self.text_bytes))

    @property
    def bits(self) -> Float64[np.ndarray, "items"]:
        return self.per_item(self.nats) / math.log(2)

    @property
    def tokens(self) -> Int64[np.ndarray, "items"]:
        return np.bincount(self.record, minlength=len(self.text_bytes))

    @property
    def position(self) -> Int64[np.ndarray, "tokens"]:
        """Which token of its item each one is, from 1."""
        counts = self.tokens
        return np.arange(len(self.record)) - np.repeat(np.cumsum(counts) - counts, counts) + 1

    def ratios(self) -> dict[str, Ratio]:
        """Every measured quantity as a ratio over items, by the metric's name."""
        tokens = self.tokens.astype(np.float64)
        ratios = {
            "bits_per_byte": Ratio(self.bits, self.text_bytes.astype(np.float64)),
            "top1_accuracy": Ratio(self.per_item(self.correct), tokens),
            "entropy_nats": Ratio(self.per_item(self.entropy), tokens),
        }
        if self.beside is not None:
            ratios["teacher_agreement"] = Ratio(self.per_item(self.beside.agrees), tokens)
            ratios["kl_nats"] = Ratio(self.per_item(self.beside.kl), tokens)
        return ratios


def score(
    model: PreTrainedModel,
    rendered: Sequence[Rendered],
    advance: Callable[[int], object] = lambda items: None,
    *,
    reference: Reference | None = None,
    keep_hidden: bool = False,
    ranks: bool = False,
) -> Scores:
    """Score each item's supervised tokens under a causal language model.

    Args:
        model: a Hugging Face causal language model in evaluation mode; its device and dtype are used as they are.
        rendered: items rendered with this model's own tokenizer (and template).
        advance: called with the number of items finished, for a progress bar.
        reference: a teacher's side of the very same tokens, in the same order.
        keep_hidden: return the hidden states, too (a teacher's, to become a reference).
        ranks: return the tokens' ranks, too.

    Raises:
        DanteError: an item is longer than the model's context, or not a single token of it is supervised.
    """
    _check_lengths(model, rendered)
    counts = np.array([sum(item.supervised[1:]) for item in rendered], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])
    total, head = int(starts[-1]), Head.of(model)
    dtypes = TokenScores.dtypes(torch.float64, compared=reference is not None, ranks=ranks)
    kept = {name: torch.zeros(total, dtype=dtype) for name, dtype in dtypes.items()}
    hidden = torch.empty(total, head.weight.shape[1], dtype=model.dtype) if keep_hidden else None
    with torch.inference_mode():
        tokens = BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cuda"])
        for rows in _length_sorted_batches([len(item.input_ids) for item in rendered], tokens):
            place = torch.from_numpy(np.concatenate([np.arange(starts[row], starts[row + 1]) for row in rows]))
            beside = (
                Reference(reference.head, reference.hidden[place].to(model.device)) if reference is not None else None
            )
            states_ND, scored = _score_batch(model, head, [rendered[row] for row in rows], beside, ranks)
            for name, values in kept.items():
                values[place] = getattr(scored, name).to("cpu", values.dtype)
            if hidden is not None:
                hidden[place] = states_ND.cpu()
            advance(len(rows))
    found = {name: values.numpy() for name, values in kept.items()}
    return Scores(
        text_bytes=np.array([item.answer_bytes for item in rendered], dtype=np.int64),
        record=np.repeat(np.arange(len(rendered)), counts),
        nats=-found["log_probability"],
        argmax=found["argmax"],
        confidence=found["confidence"],
        entropy=found["entropy"],
        vocabulary=head.weight.shape[0],
        correct=found["is_argmax"],
        beside=_beside(found) if reference is not None else None,
        hidden=hidden,
        rank=found.get("rank"),
    )


def _beside(found: Mapping[str, np.ndarray]) -> Beside:
    theirs = {name: found[f"reference_{name}"] for name in ("argmax", "confidence", "entropy")}
    return Beside(kl=found["kl"], agrees=found["agrees"], **theirs)


def _score_batch(
    model: PreTrainedModel, head: Head, batch: Sequence[Rendered], reference: Reference | None, ranks: bool
) -> tuple[Tensor, TokenScores]:
    """Hidden states and scores of one right-padded batch's supervised tokens, record after record."""
    device = model.device
    length = max(len(item.input_ids) for item in batch)
    ids_BT = torch.zeros(len(batch), length, dtype=torch.long)
    target_BT = torch.zeros(len(batch), length, dtype=torch.bool)
    for row, item in enumerate(batch):
        ids_BT[row, : len(item.input_ids)] = torch.tensor(item.input_ids)
        target_BT[row, : len(item.input_ids)] = torch.tensor(item.supervised)
    target_BT[:, 0] = False  # nothing predicts the first token
    row_N, position_N = target_BT.nonzero(as_tuple=True)
    # No attention mask: padding stands on the right, where causal attention of the real tokens cannot see it.
    hidden_BTD = model.base_model(input_ids=ids_BT.to(device), use_cache=False).last_hidden_state
    hidden_ND = hidden_BTD[row_N, position_N - 1]
    return hidden_ND, token_scores(head, hidden_ND, ids_BT[row_N, position_N].to(device), reference, ranks=ranks)


def _length_sorted_batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Rows in order of length, longest first (running out of memory shows at once), a token budget at a time."""
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    while order:
        rows = max(1, tokens // lengths[order[0]])
        yield order[:rows]
        order = order[rows:]


def context_of(config: PreTrainedConfig) -> int | None:
    """Tokens that a model reads at most; None where its config does not say."""
    limit: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit


def _check_lengths(model: PreTrainedModel, rendered: Sequence[Rendered]) -> None:
    limit = context_of(model.config)
    for row, item in enumerate(rendered):
        if limit is not None and len(item.input_ids) > limit:
            raise DanteError(
                f"text {row} has {len(item.input_ids)} tokens, more than the model's context of {limit}",
                where="eval",
                allowed=f"records of at most {limit} tokens",
                fix="lower the cache's max_new_tokens or drop the record",
            )
        if not any(item.supervised[1:]):
            raise DanteError(f"text {row} has no supervised token", where="eval", fix="remove the record")
