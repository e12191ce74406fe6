"""The data module: curriculum, packing plan, and the batches of every optimizer step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset as Table
from jaxtyping import Int64
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, get_worker_info

from dante.cache.records.reader import Policy
from dante.data.batch import MicroBatch, StepBatch, assemble, joined_reading, joined_spans
from dante.data.curriculum import Curriculum
from dante.data.packing import Plan, make_plan
from dante.data.table import PLAIN, Wanted, column, names_of, rows_of, tokenised_train_records
from dante.errors import DanteError
from dante.supervision.provided import Supervision
from dante.system.interrupt import ignore_in_worker
from dante.text.rendering import Renderer


class PlannedSteps(Dataset[StepBatch | DanteError]):
    """Map-style: item k is what one rank runs in optimizer step k, and depends on nothing but k.

    Who provides the teacher's side is told of the process's next step before it is asked for this one. In a data loader
    worker an error of the input is an item, because torch would wrap it into a stack of frames.
    """

    def __init__(
        self,
        table: Table,
        rows: Int64[np.ndarray, " records"],
        plan: Plan,
        rank: int,
        world_size: int,
        accumulate: int | None,
        supervision: Supervision,
        wanted: Wanted = PLAIN,
    ) -> None:
        self.table, self.rows, self.plan, self.wanted = table, rows, plan, wanted
        self.rank, self.world_size, self.accumulate = rank, world_size, accumulate
        self.supervision = supervision
        self._expected = -1  # the step that was announced last

    def __len__(self) -> int:
        return self.plan.steps

    def __getitem__(self, step: int) -> StepBatch | DanteError:
        try:
            return self._batch(step)
        except DanteError as error:
            if get_worker_info() is None:
                raise
            return error

    def _batch(self, step: int) -> StepBatch:
        if self.supervision.sparse is not None:
            self._look_ahead(step)
        micro_batches = [self._supervised(list(rows_of(self.table, rows))) for rows in self._rows(step)]
        return StepBatch(
            micro_batches=micro_batches,
            tokens=int(self.plan.tokens[step]),
            supervised_tokens=int(self.plan.supervised_tokens[step]),
            records=int(self.plan.records[step]),
            step=step,
        )

    def _rows(self, step: int) -> list[list[int]]:
        """Rows of the table in each micro-batch of a step."""
        groups = self.plan.micro_batches(step, self.rank, self.world_size, self.accumulate)
        return [self.rows[group].tolist() for group in groups]

    def _look_ahead(self, step: int) -> None:
        """Announce the step that this process is asked for next: workers take turns."""
        worker = get_worker_info()
        following = step + (worker.num_workers if worker is not None else 1)
        for announced in (step, following):
            if self._expected < announced < self.plan.steps:
                self.supervision.expect(names_of(self.table, [row for rows in self._rows(announced) for row in rows]))
                self._expected = announced

    def _supervised(self, records: list[dict[str, Any]]) -> MicroBatch:
        """One row, with the teacher's side of its supervised tokens."""
        batch = assemble(records)
        tokens = [int(record["supervised_tokens"]) for record in records]
        taught = self.supervision.of(batch.record_ids, tokens)
        if self.wanted.spans:
            taught = replace(taught, maybe_spans=joined_spans(records))
        reading = joined_reading(records) if self.wanted.reader is not None else None
        return replace(batch, teacher=taught, reading=reading)


class StepLoader(DataLoader[Any]):
    """A data loader that raises the errors which its workers hand over."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for item in super().__iter__():
            if isinstance(item, DanteError):
                raise item
            yield item


class DistillData(LightningDataModule):
    """Curriculum → packing plan → one `StepBatch` per optimizer step.

    Trainers need `use_distributed_sampler=False`: ranks share steps here, they do not divide them. After `setup`,
    `plan` holds the plan of all steps and `dropped_overlong` how many records were longer than `max_tokens`. Where a
    budget decides the steps, `open` and `plan_of` are enough to work them out, and `steps` is set before `setup`.

    Args:
        cache: finished cache directory.
        renderer: the student's template and form.
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
        supervision: provides what losses need of the teacher beside its text.
        wanted: of the table, besides tokens and mask.
    """

    def __init__(
        self,
        cache: Path,
        renderer: Renderer,
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
        supervision: Supervision | None = None,
        wanted: Wanted = PLAIN,
    ) -> None:
        super().__init__()
        if overlong not in ("error", "drop"):
            raise DanteError(f"unknown policy {overlong!r}", where="fit.overlong", allowed="error, drop")
        self.cache, self.renderer, self.tokens_dir = Path(cache), renderer, Path(tokens_dir)
        self.curriculum, self.steps, self.batch, self.seed = curriculum, steps, dict(batch), seed
        self.max_tokens, self.accumulate, self.overlong = max_tokens, accumulate, overlong
        self.start_step, self.rank, self.world_size = start_step, rank, world_size
        self.policy, self.workers, self.wanted = policy, workers, wanted
        self.supervision = supervision or Supervision()
        self.plan: Plan | None = None
        self.dropped_overlong = 0

    def prepare_data(self) -> None:
        """Tokenises the cache, on one process per node."""
        self._tokenised()

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
        self.table = self._tokenised()
        tokens = column(self.table, "tokens")
        self.rows = np.flatnonzero(tokens <= self.max_tokens)
        self.dropped_overlong = len(tokens) - len(self.rows)
        if self.dropped_overlong and self.overlong == "error":
            longest = int(tokens.argmax())
            name = names_of(self.table, [longest])[0]
            raise _overlong(name, int(tokens[longest]), self.max_tokens, self.dropped_overlong)

    def plan_of(self, steps: int) -> Plan:
        """The plan of a fit of so many steps; one of fewer need not be its beginning (`dante.data.curriculum`)."""
        entropy = column(self.table, "output_entropy")[self.rows]
        return make_plan(
            column(self.table, "tokens")[self.rows],
            column(self.table, "supervised_tokens")[self.rows],
            lambda draws: self.curriculum.order(entropy, draws, self.seed),
            steps=steps,
            batch=self.batch,
            max_tokens=self.max_tokens,
        )

    def train_dataloader(self) -> StepLoader:
        """Steps `start_step` to the last."""
        assert self.plan is not None, "setup() has not run"
        rank, world_size = self._place()
        place = (rank, world_size, self.accumulate)
        dataset = PlannedSteps(self.table, self.rows, self.plan, *place, self.supervision, self.wanted)
        return StepLoader(
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
        train_records = len(self.rows) + self.dropped_overlong
        return {**self.plan.summary(), "train_records": train_records, "dropped_overlong": self.dropped_overlong}

    def _tokenised(self) -> Table:
        return tokenised_train_records(self.cache, self.renderer, self.tokens_dir, self.policy, self.wanted)

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
