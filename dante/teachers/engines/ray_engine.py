"""The ray engine: many copies of another engine, on one machine or on a cluster.

Each copy is a Ray actor that loads the teacher once and stays for the whole generation. Ray Data is not used for this:
every dataset that it executes starts its actors, and with them the teacher, anew, and a cache is many planned batches.
A planned batch is cut into pieces, each of which one copy runs as a batch of its own; the cut depends on the
batch alone, so that texts do not depend on how many copies there are or which of them was free. A copy that dies is
started again and its piece with it.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from dante.errors import DanteError
from dante.teachers.engines.base import Decoding, Engine, Generation, Request, Scored

RESTARTS = 3


class RayEngine:
    """Runs `copies` of `engine` as actors of a Ray cluster.

    Args:
        engine: what each copy runs.
        copies: actors; each holds the whole teacher (or its share of `gpus_per_copy` devices).
        piece_requests: requests that a copy runs as one batch; part of what decides texts in bfloat16.
        cpus_per_copy: CPU slots of an actor.
        gpus_per_copy: GPUs of an actor.
        address: of a running cluster (`auto` finds it); null starts one on this machine.
    """

    keeps_answers = False

    def __init__(
        self,
        engine: Engine,
        copies: int,
        piece_requests: int,
        cpus_per_copy: float,
        gpus_per_copy: float,
        address: str | None,
    ) -> None:
        if copies < 1 or piece_requests < 1:
            raise DanteError(
                f"copies={copies}, piece_requests={piece_requests}",
                where="engine",
                allowed="at least 1 each",
            )
        self.engine, self.copies, self.piece_requests = engine, copies, piece_requests
        self.cpus_per_copy, self.gpus_per_copy, self.address = cpus_per_copy, gpus_per_copy, address
        self.loads_model = bool(getattr(engine, "loads_model", True))
        self.version = ""
        self._ours = False
        self._actors: list[Any] = []

    def open(self, model: str, revision: str | None, resources: dict[str, Any], log: Path) -> "RayEngine":
        """Starts or joins a cluster and loads all copies; a folder of `model` must be readable on every machine."""
        ray = _ray()
        if not ray.is_initialized():
            self._ours = True
            local = {"num_cpus": max(os.cpu_count() or 1, round(self.copies * self.cpus_per_copy + 0.5))}
            ray.init(
                address=self.address,
                include_dashboard=False,
                log_to_driver=False,
                _temp_dir=None if self.address else tempfile.mkdtemp(prefix="ray-"),
                **({} if self.address else local),
            )
        options = {"num_cpus": self.cpus_per_copy, "num_gpus": self.gpus_per_copy, "max_restarts": RESTARTS}
        actor = ray.remote(max_task_retries=RESTARTS, **options)(_Copy)
        try:
            self._actors = [
                actor.remote(self.engine, model, revision, resources, str(log), n) for n in range(self.copies)
            ]
            versions = set(ray.get([worker.version.remote() for worker in self._actors]))
        except ray.exceptions.RayError as error:
            self.close()
            raise DanteError(
                f"a copy of the teacher could not be started: {_cause(error)}",
                where="engine",
                fix="see the copy's log, ask for fewer copies or less per copy (cpus_per_copy, gpus_per_copy)",
            ) from None
        if len(versions) > 1:
            self.close()
            raise DanteError(
                f"the machines have different versions: {', '.join(sorted(versions))}",
                where="engine.address",
                fix="install the same version on all machines",
            )
        self.version = f"ray {ray.__version__}, {versions.pop()}"
        return self

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[tuple[int, Generation]]:
        """Runs one planned batch piece by piece on whichever copies are free; see `Engine`."""
        starts = range(0, len(requests), self.piece_requests)
        pieces = [(start, requests[start : start + self.piece_requests]) for start in starts]
        for start, answers in self._spread(pieces, lambda actor, piece: actor.generate.remote(piece, decoding)):
            yield from ((start + position, generation) for position, generation in answers)

    def score(self, sequences: list[tuple[list[int], int]], k: int) -> Iterator[Scored]:
        """See `Engine`."""
        starts = range(0, len(sequences), self.piece_requests)
        pieces = [(start, sequences[start : start + self.piece_requests]) for start in starts]
        scores_by_start = dict(self._spread(pieces, lambda actor, piece: actor.score.remote(piece, k)))
        for start in starts:
            yield from scores_by_start[start]

    @property
    def max_logprobs(self) -> int | None:
        """As many per position as a copy gives; None: it sets no limit."""
        limit: int | None = getattr(self.engine, "max_logprobs", None)
        return limit

    def settings(self) -> dict[str, Any]:
        return {"name": "ray", "engine": self.engine.settings(), "piece_requests": self.piece_requests}

    def close(self) -> None:
        """Ends the copies, and the cluster if it was started here."""
        ray = _ray()
        for actor in self._actors:
            ray.kill(actor, no_restart=True)
        self._actors = []
        if self._ours and ray.is_initialized():
            ray.shutdown()
        self._ours = False

    def __enter__(self) -> "RayEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _spread(self, pieces: list[tuple[int, Any]], send: Callable[[Any, Any], Any]) -> Iterator[tuple[int, Any]]:
        """(start of a piece, what a copy made of it), as they end; each copy has one piece at a time."""
        ray = _ray()
        waiting, free = list(reversed(pieces)), list(self._actors)
        running: dict[Any, tuple[int, Any]] = {}
        while waiting or running:
            while waiting and free:
                (start, piece), actor = waiting.pop(), free.pop()
                running[send(actor, piece)] = (start, actor)
            (done,), _ = ray.wait(list(running), num_returns=1)
            start, actor = running.pop(done)
            free.append(actor)
            try:
                yield start, ray.get(done)
            except ray.exceptions.RayError as error:
                raise DanteError(
                    f"a copy of the teacher failed: {_cause(error)}",
                    where="engine",
                    fix="the same command continues with what is missing",
                ) from None


class _Copy:
    """The actor: an engine of its own, opened once."""

    def __init__(
        self, engine: Engine, model: str, revision: str | None, resources: dict[str, Any], log: str, number: int
    ) -> None:
        path = Path(log)
        self._engine = engine.open(model, revision, resources, path.with_name(f"{path.stem}-{number}{path.suffix}"))

    def version(self) -> str:
        return self._engine.version

    def generate(self, requests: list[Request], decoding: Decoding) -> list[tuple[int, Generation]]:
        return list(self._engine.generate(requests, decoding))

    def score(self, sequences: list[tuple[list[int], int]], k: int) -> list[Scored]:
        return list(self._engine.score(sequences, k))


def _cause(error: Exception) -> str:
    """What went wrong in the copy, without Ray's frames."""
    cause = getattr(error, "cause", None) or error
    return str(cause).strip().splitlines()[-1][:300]


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise DanteError(
            "ray is not installed", where="engine", fix="pip install 'dante[ray]', or another engine"
        ) from None
    return ray
