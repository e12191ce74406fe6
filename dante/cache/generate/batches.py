"""Runs the requests that a store has no answer to, in batches that are fixed before the first one runs.

In bfloat16 a greedy text depends on the batch that it was generated in. So the plan is made of all requests, answered
or not, and a batch is run whole wherever none of it is there; in float32 it does not matter.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dante import console
from dante.cache.generate.answer_store import AnswerStore
from dante.errors import DanteError
from dante.system.locks import POLL_S
from dante.teachers.engines.base import Decoding, Engine, Generation, Request


@dataclass(frozen=True)
class Job:
    """One answer that is wanted: where it is kept, what is asked, and how."""

    key: str
    request: Request
    decoding: Decoding


def plan(jobs: Sequence[Job], batch_requests: int) -> list[list[Job]]:
    """Jobs in order, cut into batches of one decoding each."""
    batches: list[list[Job]] = []
    for job in jobs:
        if not batches or len(batches[-1]) == batch_requests or batches[-1][0].decoding != job.decoding:
            batches.append([])
        batches[-1].append(job)
    return batches


class Generator(AbstractContextManager["Generator"]):
    """A teacher behind a store; its engine is opened at the first answer that is missing, if one is.

    Args:
        store: where answers are looked for and kept.
        engine: not open yet.
        model: folder or hub id, as `Engine.open` takes it.
        revision: hub revision, or None.
        resources: the step's.
        log: the engine's log file.
        batch_requests: requests per planned batch: what an interruption costs at most.
    """

    def __init__(
        self,
        store: AnswerStore,
        engine: Engine,
        model: str,
        revision: str | None,
        resources: dict[str, Any],
        log: Path,
        batch_requests: int,
    ) -> None:
        self.store, self.batch_requests = store, batch_requests
        self._closed_engine, self._how = engine, (model, revision, resources, log)
        self._engine: Engine | None = None
        self._stack = ExitStack()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def answers(self, jobs: Sequence[Job], what: str) -> list[Generation]:
        """One answer per job, in order; `what` names the work in the progress bar."""
        waiting = [batch for batch in plan(jobs, self.batch_requests) if self._missing(batch)]
        if waiting:
            with _progress() as progress:
                self._fill(waiting, _Bar(progress, what, jobs, self.store))
        return [self.store[job.key] for job in jobs]

    def _missing(self, batch: Sequence[Job]) -> list[Job]:
        return [job for job in batch if job.key not in self.store]

    def _fill(self, batches: list[list[Job]], bar: "_Bar") -> None:
        """Runs what is missing; where another worker is busy with a batch, goes on with the next and comes back."""
        announced = False
        while batches:
            left = []
            for batch in batches:
                with self.store.claim(job.key for job in batch) as claimed:
                    if claimed:
                        self._run(self._missing(batch), bar)
                    else:
                        left.append(batch)
                bar.recount()
            if left and len(left) == len(batches):  # nothing to do here but to wait, and to take over if one is killed
                if not announced:
                    console.note(f"{len(left)} batches are being answered by other workers; waiting for them")
                announced = True
                time.sleep(POLL_S)
                self.store.refresh()
            batches = [batch for batch in left if self._missing(batch)]

    def _run(self, jobs: list[Job], bar: "_Bar") -> None:
        if not jobs:
            return
        engine = self._opened()
        answers: dict[str, Generation] = {}
        try:
            for position, generation in engine.generate([job.request for job in jobs], jobs[0].decoding):
                answers[jobs[position].key] = generation
                bar.advance(generation)
        except BaseException:
            if engine.keeps_answers and answers:
                self.store.commit(answers)
            raise
        missing = [job.key for job in jobs if job.key not in answers]
        if missing:
            raise DanteError(f"the engine left {len(missing)} of {len(jobs)} requests unanswered", where=missing[0])
        self.store.commit({job.key: answers[job.key] for job in jobs})

    def _opened(self) -> Engine:
        if self._engine is None:
            self._engine = self._stack.enter_context(self._closed_engine.open(*self._how))
            self.store.bind_version(self._engine.version)
        return self._engine


def _progress() -> Progress:
    tokens = TextColumn("{task.fields[tokens]:,} tokens")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), tokens, TimeRemainingColumn())
    return Progress(*columns, console=console.screen())


class _Bar:
    """Answers and tokens so far, those that the store had at the start included."""

    def __init__(self, progress: Progress, what: str, jobs: Sequence[Job], store: AnswerStore) -> None:
        self._progress, self._jobs, self._store = progress, jobs, store
        self._task = progress.add_task(what, total=len(jobs), tokens=0)
        self.recount()

    def advance(self, generation: Generation) -> None:
        """One more answer of the batch in flight."""
        self._tokens += len(generation.token_logprobs)
        self._progress.update(self._task, advance=1, tokens=self._tokens)

    def recount(self) -> None:
        """What the store has now, whoever put it there."""
        done = [self._store[job.key] for job in self._jobs if job.key in self._store]
        self._tokens = sum(len(answer.token_logprobs) for answer in done)
        self._progress.update(self._task, completed=len(done), tokens=self._tokens)
