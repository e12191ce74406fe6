"""Batches of packed records, and the data module that builds them.

`MicroBatch` is one padding-free row; `StepBatch` is everything one rank runs in one optimizer step. Supervised
positions are shifted here, once: the hidden state at `positions[i]` predicts `labels[i]`; no other code shifts
anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset as Table
from jaxtyping import Int32, Int64
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dante.cache.reader import Policy
from dante.data.curriculum import Curriculum
from dante.data.packing import Plan, make_plan
from dante.data.table import RECORD_FIELDS, column, names_of, rows_of, tokenised_train_records
from dante.errors import DanteError
from dante.system.interrupt import ignore_in_worker
from dante.text.chat import ChatRenderer


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
            document_tokens=self.document_tokens,
            document_ends=function(self.document_ends) if self.document_ends is not None else None,
        )


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


def documents(lengths: Sequence[int]) -> dict[str, Any]:
    """The fields of a `MicroBatch` that say where its documents end.

    Args:
        lengths: tokens per document, in the order of the row.
    """
    ends = torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int32))
    return {"document_tokens": tuple(lengths), "document_ends": ends}


class PlannedSteps(Dataset[StepBatch]):
    """Map-style: item k is what one rank runs in optimizer step k, and depends on nothing but k."""

    def __init__(
        self,
        table: Table,
        rows: Int64[np.ndarray, " records"],
        plan: Plan,
        rank: int,
        world_size: int,
        accumulate: int | None,
    ) -> None:
        self.table, self.rows, self.plan = table, rows, plan
        self.rank, self.world_size, self.accumulate = rank, world_size, accumulate

    def __len__(self) -> int:
        return self.plan.steps

    def __getitem__(self, step: int) -> StepBatch:
        groups = self.plan.micro_batches(step, self.rank, self.world_size, self.accumulate)
        micro_batches = [assemble(list(rows_of(self.table, self.rows[group].tolist()))) for group in groups]
        return StepBatch(
            micro_batches=micro_batches,
            tokens=int(self.plan.tokens[step]),
            supervised_tokens=int(self.plan.supervised_tokens[step]),
            records=int(self.plan.records[step]),
            step=step,
        )


class DistillData(LightningDataModule):
    """Curriculum → packing plan → one `StepBatch` per optimizer step.

    Trainers need `use_distributed_sampler=False`: ranks share steps here, they do not divide them. After `setup`,
    `plan` holds the plan of all steps and `dropped_overlong` how many records were longer than `max_tokens`. Where a
    budget decides the steps, `open` and `plan_of` are enough to work them out, and `steps` is set before `setup`.

    Args:
        cache: finished cache directory.
        renderer: the student's chat template.
        tokens_dir: where the tokenised table is kept.
        curriculum: orders the records.
        steps: optimizer steps of the whole fit; None: set as an attribute before `setup`.
        batch: `{unit: records | packs | tokens, size}` of an optimizer step, all ranks together.
        max_tokens: longest pack.
        accumulate: None: a micro-batch per pack; n: a rank's packs of a step joined into at most n micro-batches.
        overlong: a record longer than `max_tokens` is an `error`, or `drop`ped and counted.
        seed: of the curriculum.
        start_step: first step to yield; a resumed fit sets it (also as an attribute, before `train_dataloader`).
        rank: data-parallel rank; None: the trainer's.
        world_size: number of data-parallel ranks; None: the trainer's.
        policy: what an unreadable record does: `error` or `skip`.
        workers: processes that build batches ahead; 0: none.
    """

    def __init__(
        self,
        cache: Path,
        renderer: ChatRenderer,
        tokens_dir: Path,
        *,
        curriculum: Curriculum,
        steps: int | None,
        batch: Mapping[str, Any],
        max_tokens: int,
        accumulate: int | None,
        overlong: str,
        seed: int,
        start_step: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        policy: Policy = "error",
        workers: int = 0,
    ) -> None:
        super().__init__()
        if overlong not in ("error", "drop"):
            raise DanteError(f"unknown policy {overlong!r}", where="fit.overlong", allowed="error, drop")
        self.cache, self.renderer, self.tokens_dir = Path(cache), renderer, Path(tokens_dir)
        self.curriculum, self.steps, self.batch, self.seed = curriculum, steps, dict(batch), seed
        self.max_tokens, self.accumulate, self.overlong = max_tokens, accumulate, overlong
        self.start_step, self.rank, self.world_size = start_step, rank, world_size
        self.policy, self.workers = policy, workers
        self.plan: Plan | None = None
        self.dropped_overlong = 0

    def prepare_data(self) -> None:
        """Tokenises the cache, on one process per node."""
        tokenised_train_records(self.cache, self.renderer, self.tokens_dir, self.policy)

    def setup(self, stage: str | None = None) -> None:
        """Opens the table and plans every step."""
        if self.plan is None:
            assert self.steps is not None, "the number of steps has not been set"
            self.open()
            self.plan = self.plan_of(self.steps)

    def open(self) -> None:
        """Opens the table: `table`, and the `rows` of it that fit into a pack.

        Raises:
            DanteError: a record is longer than a pack, and none may be dropped.
        """
        self.table = tokenised_train_records(self.cache, self.renderer, self.tokens_dir, self.policy)
        tokens = column(self.table, "tokens")
        self.rows = np.flatnonzero(tokens <= self.max_tokens)
        self.dropped_overlong = len(tokens) - len(self.rows)
        if self.dropped_overlong and self.overlong == "error":
            longest = int(tokens.argmax())
            name = names_of(self.table, [longest])[0]
            raise _overlong(name, int(tokens[longest]), self.max_tokens, self.dropped_overlong)

    def plan_of(self, steps: int) -> Plan:
        """The plan of a fit of so many steps; one of fewer steps need not be its beginning (`dante.data.curriculum`)."""
        entropy = column(self.table, "output_entropy")[self.rows]
        return make_plan(
            column(self.table, "tokens")[self.rows],
            column(self.table, "supervised_tokens")[self.rows],
            lambda draws: self.curriculum.order(entropy, draws, self.seed),
            steps=steps,
            batch=self.batch,
            max_tokens=self.max_tokens,
        )

    def train_dataloader(self) -> DataLoader[StepBatch]:
        """Steps `start_step` to the last."""
        assert self.plan is not None, "setup() has not run"
        rank, world_size = self._place()
        dataset = PlannedSteps(self.table, self.rows, self.plan, rank, world_size, self.accumulate)
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=range(self.start_step, self.plan.steps),
            num_workers=self.workers,
            worker_init_fn=ignore_in_worker,
            pin_memory=torch.cuda.is_available(),
        )

    def summary(self) -> dict[str, float | int]:
        """Totals of the whole fit (see `Plan.summary`), records in the train split, records dropped as too long."""
        assert self.plan is not None, "setup() has not run"
        found = len(self.rows) + self.dropped_overlong
        return {**self.plan.summary(), "train_records": found, "dropped_overlong": self.dropped_overlong}

    def _place(self) -> tuple[int, int]:
        trainer = self.trainer
        rank = self.rank if self.rank is not None else trainer.global_rank if trainer else 0
        world_size = self.world_size if self.world_size is not None else trainer.world_size if trainer else 1
        connector = getattr(trainer, "_accelerator_connector", None)
        if world_size > 1 and getattr(connector, "use_distributed_sampler", False):
            raise DanteError(
                "the trainer would divide optimizer steps among ranks",
                where="Trainer(use_distributed_sampler=True)",
                fix="build the Trainer with use_distributed_sampler=False",
            )
        return rank, world_size


def _overlong(record: str, tokens: int, max_tokens: int, count: int) -> DanteError:
    return DanteError(
        f"record {record} has {tokens} tokens, a pack holds {max_tokens}"
        + (f" ({count} records are too long)" if count > 1 else ""),
        where="fit.max_tokens",
        fix="raise fit.max_tokens, or set fit.overlong=drop to leave such records out",
    )
