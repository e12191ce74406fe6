"""Batches of packed records, and the data module that builds them.

`MicroBatch` is one padding-free row; `StepBatch` is everything one rank runs in one optimizer step. Supervised
positions are shifted here, once: the hidden state at `positions[i]` predicts `labels[i]`; no other code shifts
anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor


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
    """

    input_ids: Int64[Tensor, "1 row_tokens"]
    position_ids: Int64[Tensor, "1 row_tokens"]
    positions: Int64[Tensor, " supervised"]
    labels: Int64[Tensor, " supervised"]
    record: Int64[Tensor, " supervised"]
    fields: dict[str, Tensor]
    record_ids: list[str]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> MicroBatch:
        """The same batch on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> MicroBatch:
        """The same batch in page-locked host memory."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> MicroBatch:
        return MicroBatch(
            input_ids=function(self.input_ids),
            position_ids=function(self.position_ids),
            positions=function(self.positions),
            labels=function(self.labels),
            record=function(self.record),
            fields={name: function(values) for name, values in self.fields.items()},
            record_ids=self.record_ids,
        )


@dataclass(frozen=True)
class StepBatch:
    """Everything one rank runs in one optimizer step.

    Attributes:
        micro_batches: this rank's rows; every rank has the same number (a rank that has fewer packs than the others
            runs an empty row, one token and nothing supervised, so that collectives match).
        supervised_tokens: supervised tokens of the whole step, over all micro-batches of all ranks.
        records: records of the whole step, over all ranks.
        step: which optimizer step of the plan this is, from 0.
    """

    micro_batches: list[MicroBatch]
    supervised_tokens: int
    records: int
    step: int

    def to(self, device: torch.device | str, non_blocking: bool = False) -> StepBatch:
        """The same batch on `device`."""
        moved = [batch.to(device, non_blocking=non_blocking) for batch in self.micro_batches]
        return StepBatch(moved, self.supervised_tokens, self.records, self.step)

    def pin_memory(self) -> StepBatch:
        """The same batch in page-locked host memory."""
        pinned = [batch.pin_memory() for batch in self.micro_batches]
        return StepBatch(pinned, self.supervised_tokens, self.records, self.step)
