"""A server as live teacher: the K largest log-probabilities of a batch's texts, asked for one step ahead.

Any OpenAI-compatible server that answers `prompt_logprobs` (vLLM) scores the records of the student's batches while the
step before them runs. What comes is kept as files keep it (`dante.cache.sparse.kinds`), without their rounding, for
losses on `topk_tail`. The text is the student's rendering, token id by token id, so student and teacher have to share
tokenizer and template: that is compared before the first step. Ids beyond the tokenizer's are padding of the teacher's
head: their mass joins the tail.

Every process that builds batches (each rank, or each of its data loader workers) asks by itself, over connections that
it opened itself; the bounds of `engine` (`max_concurrency`, `requests_per_minute`) hold for each of them. A record that
is drawn again is asked for again: nothing is kept.
"""

import multiprocessing
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dante.cache.records.record import Record
from dante.cache.sparse.files import Header
from dante.cache.sparse.kinds import Sparse, TopKTail
from dante.cache.sparse.making.make import vocabulary_of
from dante.cache.sparse.making.measure import measure, probe, refuse_unable, texts_of
from dante.errors import DanteError
from dante.losses.tokens import SparseTargets
from dante.supervision.ahead import Ahead
from dante.supervision.asked import Asked
from dante.supervision.sparse import joined, teachers_tokenizer, train_records, within
from dante.system import rank
from dante.teachers.engines.base import Engine
from dante.teachers.teacher import load_teacher
from dante.text.chat import ChatRenderer
from dante.text.rendering import Renderer
from dante.text.tokens.vocabularies import difference


class ServerSparse:
    """The teacher of a finished `teacher` step, asked on a server.

    Args:
        step: the fit's input that is that step, for tokenizer, template and vocabulary.
        size: K, log-probabilities kept per token.
        engine: the server (`conf/engine/server.yaml`).
    """

    def __init__(self, step: str, size: int, engine: Engine) -> None:
        self.step, self.size, self.engine = step, size, engine
        if size < 1:
            raise DanteError(f"size={size}", where="supervision.sparse.size", allowed="1 or more", fix="size=20")

    def scoring_inputs(self) -> list[str]:
        """See `Source`: every draw is scored, and has its price."""
        return [self.step]

    def resident_inputs(self) -> list[str]:
        """See `Source`: the weights lie elsewhere."""
        return []

    def open(self, asked: Asked) -> "Served":
        """Compare the tokenizers, and ask the server for one record: it is not there later that it gives too few.

        Raises:
            DanteError: a loss that reads drawn tokens, another tokenizer or template, a server that cannot be reached,
                cannot score, or gives fewer than K.
        """
        where = asked.where
        if asked.kind != TopKTail.name:
            raise DanteError(
                f"a loss reads {asked.kind}, and a server gives the largest log-probabilities alone: draws from them "
                "would be biased",
                where=where,
                allowed=f"losses that read {TopKTail.name}",
                fix="loss=[topk_tail], or kept logits: supervision/sparse=cached",
            )
        folder = asked.teacher(self.step)
        handle = load_teacher(folder)
        model = handle.location(folder)
        # Variables of the template are the student's defaults, and the teacher's are given.
        theirs, ours = teachers_tokenizer(folder, asked.chat), asked.renderer.tokenizer
        found = difference(theirs, ours, template=isinstance(asked.renderer, ChatRenderer))
        if found is not None:
            raise DanteError(
                f"the teacher on the server, {handle.name}, and the student do not render alike: {found}",
                where=where,
                allowed="a student with the teacher's own tokenizer and chat template",
                fix="take such a student, or a loss that reads the teacher's text alone: loss=[ce]",
            )
        log = Path(os.devnull) if asked.out is None else asked.out / f"{where}-{rank.of_this_process()}.log"
        header = Header(
            kind=TopKTail.name,
            size=self.size,
            vocabulary=vocabulary_of(self.engine, model, handle.revision),
            teacher=handle.sha256 or f"{handle.model}@{handle.revision}",
            tokenizer="",  # nothing is written, and what is asked for are the student's own ids
            seed=0,
        )
        served = Served(
            _Server(self.engine, model, handle.revision, log, where),
            header,
            asked.renderer,
            train_records(asked.inputs["cache"], asked.records),
        )
        served.probe()
        return served


@dataclass(frozen=True)
class _Server:
    """How the engine is opened, and what its keys are called here."""

    engine: Engine
    model: str
    revision: str | None
    log: Path
    where: str

    def open(self) -> Engine:
        return self.engine.open(self.model, self.revision, {}, self.log)

    @contextmanager
    def told(self) -> Iterator[None]:
        """The engine's own messages, with the keys that are typed here."""
        try:
            yield
        except DanteError as error:
            here = [re.sub(r"(?<![\w.])engine\.", f"{self.where}.engine.", text) for text in _parts(error)]
            raise DanteError(error.what, where=here[0], allowed=here[1], fix=here[2]) from None


def _parts(error: DanteError) -> tuple[str, str, str]:
    return error.where, error.allowed, error.fix


class Served:
    """Targets from an open server, made for records that are expected.

    Args:
        server: how it is opened.
        header: what is kept of its answers.
        renderer: of the student.
        records: train records by id.
    """

    def __init__(self, server: _Server, header: Header, renderer: Renderer, records: Mapping[str, Record]) -> None:
        self.server, self.header, self.renderer, self.records = server, header, renderer, records
        self.tokens = len(renderer.tokenizer)
        self._over = multiprocessing.Event()
        self._ahead: tuple[int, Ahead[Sparse]] | None = None
        self._opened = False

    def probe(self) -> None:
        """Ask for one record and let go of the server again, before any worker is forked.

        Raises:
            DanteError: see `ServerSparse.open`.
        """
        first = texts_of(list(self.records.values())[:1], self.renderer)
        engine = self.server.engine
        with self.server.told():
            refuse_unable(engine, self.header)
            with self.server.open():
                for text in first:
                    probe(engine, self.header, text, f"{self.server.where}.size=")

    def expect(self, record_ids: Sequence[str]) -> None:
        """Have them scored in the background."""
        self._here().expect(record_ids)

    def targets(self, record_ids: Sequence[str], tokens: Sequence[int]) -> SparseTargets:
        """See `SparseProvider.targets`; waits for the server.

        Raises:
            DanteError: what the engine says of the server, or rows that are not as many as asked for.
        """
        with self.server.told():
            kept = self._here().take(record_ids)
        for identity, rows, count in zip(record_ids, kept, tokens, strict=True):
            if len(rows.ids) != count:
                raise DanteError(
                    f"record {identity} was scored at {len(rows.ids)} tokens, and {count} are supervised",
                    where=self.server.where,
                )
        return joined([within(rows, self.tokens) for rows in kept])

    def close(self) -> None:
        """See `SparseProvider.close`: requests under way are cancelled."""
        self._over.set()
        if self._ahead is not None and self._ahead[0] == os.getpid():
            self._ahead[1].close()
        self._ahead = None

    def __getstate__(self) -> dict[str, Any]:
        """For a worker that is spawned: it opens the server itself."""
        return self.__dict__ | {"_ahead": None, "_opened": False}

    def _here(self) -> Ahead[Sparse]:
        """The thread of this process: a forked worker has none of its parent's."""
        if self._ahead is None or self._ahead[0] != os.getpid():
            self._opened = False
            self._ahead = os.getpid(), Ahead(self._scored, self.server.engine.close, self._over)
        return self._ahead[1]

    def _scored(self, record_ids: list[str]) -> Iterator[Sparse]:
        if not self._opened:
            self.server.open()
            self._opened = True
        texts = texts_of([self.records[identity] for identity in record_ids], self.renderer)
        yield from measure(self.server.engine, self.header, texts)
