"""Bits per byte of the teacher's held-out answers: the lab's main number, comparable across tokenizers.

`bits_per_byte = sum_i NLL_i / (ln 2 * sum_i bytes_i)` over held-out records i. NLL is the negative natural-log
probability of the supervised tokens: the answer *and* its end-of-turn token, for knowing when to stop is part of it.
Bytes are the UTF-8 bytes of `teacher_text` without white space at its ends (as the chat renderer defines an answer).
It is a ratio of totals, not a mean of per-item ratios: long answers weigh more.

Teacher, initialisation and student take the same road: own tokenizer and chat template, backbone, log-probabilities of
the labels at supervised positions, float64 sums. Definition [I]; bits per byte as in Gao et al., "The Pile" (2020).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from transformers import PreTrainedModel

from dante.errors import DanteError
from dante.losses.vocabulary import label_log_probabilities
from dante.students.chat import Rendered

# Tokens (padding included) of one forward pass. It bounds memory and changes no result.
BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Scores:
    """What one model needs for each item.

    Attributes:
        bits: bits of the supervised tokens.
        text_bytes: UTF-8 bytes of the teacher's text.
        tokens: supervised tokens in this model's tokenizer.
    """

    bits: Float64[np.ndarray, "items"]
    text_bytes: Int64[np.ndarray, "items"]
    tokens: Int64[np.ndarray, "items"]


def score(
    model: PreTrainedModel, rendered: Sequence[Rendered], advance: Callable[[int], object] = lambda items: None
) -> Scores:
    """Bits of each rendered record's supervised tokens under a causal language model.

    Args:
        model: a Hugging Face causal language model in evaluation mode; its device and dtype are used as they are.
        rendered: records rendered with this model's own tokenizer and template.
        advance: called with the number of items finished, for a progress bar.

    Raises:
        DanteError: a record is longer than the model's context, or not a single token of it is supervised.
    """
    _check_lengths(model, rendered)
    nats = torch.zeros(len(rendered), dtype=torch.float64)
    with torch.inference_mode():
        for rows in _length_sorted_batches([len(item.input_ids) for item in rendered]):
            batch = [rendered[row] for row in rows]
            nats[rows] = _batch_nats(model, batch)
            advance(len(rows))
    return Scores(
        bits=(nats / math.log(2)).numpy(),
        text_bytes=np.array([item.answer_bytes for item in rendered], dtype=np.int64),
        tokens=np.array([sum(item.supervised) for item in rendered], dtype=np.int64),
    )


def _batch_nats(model: PreTrainedModel, batch: Sequence[Rendered]) -> Tensor:
    """Negative log-likelihood in nats of each record of one right-padded batch: float64 [records]."""
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
    log_p_N = label_log_probabilities(model, hidden_BTD[row_N, position_N - 1], ids_BT[row_N, position_N].to(device))
    return -torch.zeros(len(batch), dtype=torch.float64).index_add_(0, row_N, log_p_N.double().cpu())


def _length_sorted_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Rows in order of length, longest first (running out of memory shows at once), a token budget at a time."""
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    while order:
        rows = max(1, BATCH_TOKENS // lengths[order[0]])
        yield order[:rows]
        order = order[rows:]


def _check_lengths(model: PreTrainedModel, rendered: Sequence[Rendered]) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    for row, item in enumerate(rendered):
        if limit is not None and len(item.input_ids) > limit:
            raise DanteError(
                f"held-out record {row} has {len(item.input_ids)} tokens, more than the model's context of {limit}",
                where="eval",
                allowed=f"records of at most {limit} tokens",
                fix="lower the cache's max_new_tokens or drop the record",
            )
        if not any(item.supervised[1:]):
            raise DanteError(f"held-out record {row} has no supervised token", where="eval", fix="remove the record")
