"""What a step trains on.

`MicroBatch` is one padding-free row; `StepBatch` is everything one rank runs in one optimizer step. Supervised
positions are shifted here, once: the hidden state at `positions[i]` predicts `labels[i]`; no other code shifts
anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from dante.data.table import RECORD_FIELDS
from dante.losses.tokens import TeacherSide, TeacherSpans, TokenSpans


@dataclass(frozen=True)
class MicroBatch:
    """Several records in one row without padding; attention stays inside a record because positions restart at 0.

    There is no attention mask on purpose: transformers derives the block-diagonal mask from `position_ids` only when
    `attention_mask` is None and `use_cache` is False; with either of them records would silently see each other.

    Attributes:
        input_ids: the records' tokens, one after the other.
        position_ids: position inside the record.
        positions: indices into the row whose hidden state predicts a supervised token.
        labels: the token each of `positions` predicts: `input_ids[0, positions + 1]`.
        record: which record of this row (a row of `fields`) each supervised token belongs to.
        fields: one value per record: `output_entropy`, `output_entropy_upper` (nats per token), `self_consistency`,
            `difficulty_score` (float32; NaN where the cache has none), `supervised_tokens`, `answer_bytes` (int64).
        record_ids: the cache's ids, one per record.
        document_tokens: tokens of each document of the row, on the host: attention is laid out by them; empty: not
            told, which is enough for sdpa.
        document_ends: the same as offsets into the row, 0 first; on the row's device, where varlen kernels read them.
        teacher: what losses need of the teacher at the supervised tokens.
        reading: the same records as a teacher of other tokens reads them, where a loss has it read.
    """

    input_ids: Int64[Tensor, "1 row_tokens"]
    position_ids: Int64[Tensor, "1 row_tokens"]
    positions: Int64[Tensor, " supervised"]
    labels: Int64[Tensor, " supervised"]
    record: Int64[Tensor, " supervised"]
    fields: dict[str, Tensor]
    record_ids: list[str]
    document_tokens: tuple[int, ...] = ()
    document_ends: Int32[Tensor, " documents_and_zero"] | None = None
    teacher: TeacherSide = TeacherSide()
    reading: Reading | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> MicroBatch:
        """The same batch on `device`."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> MicroBatch:
        """The same batch in page-locked host memory."""
        return self.map(Tensor.pin_memory)

    def map(self, function: Callable[[Tensor], Tensor]) -> MicroBatch:
        """The same batch with every tensor put through a function."""
        return MicroBatch(
            input_ids=function(self.input_ids),
            position_ids=function(self.position_ids),
            positions=function(self.positions),
            labels=function(self.labels),
            record=function(self.record),
            fields={name: function(values) for name, values in self.fields.items()},
            record_ids=self.record_ids,
            document_tokens=self.document_tokens,
            document_ends=function(self.document_ends) if self.document_ends is not None else None,
            teacher=self.teacher.map(function),
            reading=self.reading.map(function) if self.reading is not None else None,
        )


@dataclass(frozen=True)
class Reading:
    """A row's records in the tokens of a teacher that has others, and the spans that both have of the answers.

    Attributes:
        row: the records up to their last answer tokens; supervised are the tokens that are in a span.
        their_tokens: the spans in these supervised tokens.
        tokens: the spans in the student's supervised tokens.
    """

    row: MicroBatch
    their_tokens: TokenSpans
    tokens: TokenSpans

    def map(self, function: Callable[[Tensor], Tensor]) -> Reading:
        """The same with every tensor put through a function."""
        return Reading(self.row.map(function), self.their_tokens.map(function), self.tokens.map(function))


@dataclass(frozen=True)
class StepBatch:
    """Everything one rank runs in one optimizer step.

    Attributes:
        micro_batches: this rank's rows; every rank has the same number (a rank that has fewer packs than the others
            runs an empty row, one token and nothing supervised, so that collectives match).
        tokens: tokens of the whole step, over all ranks, prompts counted.
        supervised_tokens: supervised tokens of the whole step, over all micro-batches of all ranks.
        records: records of the whole step, over all ranks.
        step: which optimizer step of the plan this is, from 0.
    """

    micro_batches: list[MicroBatch]
    tokens: int
    supervised_tokens: int
    records: int
    step: int

    def to(self, device: torch.device | str, non_blocking: bool = False) -> StepBatch:
        """The same batch on `device`."""
        moved = [batch.to(device, non_blocking=non_blocking) for batch in self.micro_batches]
        return replace(self, micro_batches=moved)

    def pin_memory(self) -> StepBatch:
        """The same batch in page-locked host memory."""
        pinned = [batch.pin_memory() for batch in self.micro_batches]
        return replace(self, micro_batches=pinned)


def assemble(records: Sequence[Mapping[str, Any]]) -> MicroBatch:
    """One row from table rows (`input_ids`, `supervised`, numbers, `id`); no records make an empty row of one token."""

    def joined(parts: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(np.int64)) if parts else torch.zeros(0, dtype=torch.int64)

    lengths = [len(record["input_ids"]) for record in records]
    offsets = np.cumsum([0, *lengths])
    targets = [np.flatnonzero(record["supervised"]) for record in records]
    nothing = [] if records else [np.zeros(1)]
    input_ids = joined([np.asarray(record["input_ids"]) for record in records] + nothing)
    targets_at = joined([offset + target for offset, target in zip(offsets, targets, strict=False)])
    fields = {name: torch.tensor([float(record[name]) for record in records]) for name in RECORD_FIELDS}
    for name in ("supervised_tokens", "answer_bytes"):
        fields[name] = torch.tensor([int(record[name]) for record in records], dtype=torch.int64)
    return MicroBatch(
        input_ids=input_ids[None],
        position_ids=joined([np.arange(length) for length in lengths] + nothing)[None],
        positions=targets_at - 1,
        labels=input_ids[targets_at],
        record=joined([np.full(len(target), number) for number, target in enumerate(targets)]),
        fields=fields,
        record_ids=[str(record["id"]) for record in records],
        **documents(lengths or [1]),
    )


def joined_spans(records: Sequence[Mapping[str, Any]]) -> TeacherSpans:
    """The spans of a row's records (`span`, `span_likelihood`), numbered through."""
    likelihoods = [np.asarray(record["span_likelihood"], dtype=np.float64) for record in records]
    tokens = _numbered([np.asarray(record["span"]) for record in records], [len(one) for one in likelihoods])
    return TeacherSpans(tokens, torch.from_numpy(np.concatenate([np.zeros(0), *likelihoods])))


def joined_reading(records: Sequence[Mapping[str, Any]]) -> Reading:
    """A row's records as the teacher reads them (`read_ids`, `read_prompt`, `read_span`, `shared_span`)."""
    theirs = [np.asarray(record["read_span"]) for record in records]
    counts = [int(own.max(initial=-1)) + 1 for own in theirs]
    read = [
        {
            **record,
            "input_ids": record["read_ids"],
            "supervised": np.append(np.zeros(record["read_prompt"], bool), own >= 0),
        }
        for record, own in zip(records, theirs, strict=True)
    ]
    # Where a token lies is told by the row; of those in no span nothing is asked.
    their_tokens = _numbered([own[own >= 0] for own in theirs], counts)
    return Reading(
        row=assemble(read),
        their_tokens=their_tokens,
        tokens=_numbered([np.asarray(record["shared_span"]) for record in records], counts),
    )


def _numbered(own_spans: Sequence[np.ndarray], counts: Sequence[int]) -> TokenSpans:
    """The spans of several records, numbered through.

    Args:
        own_spans: the span of each token of each record; −1: in none.
        counts: spans of each record.
    """
    spans, ranges, first_token, first_span = [], [], 0, 0
    for own, count in zip(own_spans, counts, strict=True):
        own = own.astype(np.int64)
        spans.append(np.where(own >= 0, own + first_span, -1))
        numbers = np.arange(count)
        # Ascending where a token is in a span; those in none lie between.
        inside = np.flatnonzero(own >= 0)
        begins = inside[np.searchsorted(own[inside], numbers, side="left")] + first_token
        ends = inside[np.searchsorted(own[inside], numbers, side="right") - 1] + first_token + 1
        ranges += list(zip(begins.tolist(), ends.tolist(), strict=True))
        first_token, first_span = first_token + len(own), first_span + count
    return TokenSpans(torch.from_numpy(np.concatenate([np.zeros(0, dtype=np.int64), *spans])), tuple(ranges))


def documents(lengths: Sequence[int]) -> dict[str, Any]:
    """The fields of a `MicroBatch` that say where its documents end.

    Args:
        lengths: tokens per document, in the order of the row.
    """
    ends = torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int32))
    return {"document_tokens": tuple(lengths), "document_ends": ends}
