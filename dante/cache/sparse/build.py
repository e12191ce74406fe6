"""Makes the sparse logits of a cache's records with the cache's own teacher."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from dante.cache.records.record import Record, stable_hash
from dante.cache.sparse.kinds import RandomSampling, Sparse, TopKTail
from dante.cache.sparse.sidecar import Header, SparseLogits, check_same, file_name, write_file
from dante.errors import DanteError
from dante.teachers.engines.base import Engine
from dante.text.chat import ChatRenderer

RECORDS_PER_FILE = 500

# (tokens of prompt, answer and end of turn; where the answer begins; the record) → its rows
Measure = Callable[[list[int], int, Record], Sparse]


def build(records: Sequence[Record], header: Header, engine: Engine, renderer: ChatRenderer, out: Path) -> SparseLogits:
    """Adds the rows of every record that has none yet, one file after the other.

    Args:
        records: in the order in which they are made.
        header: teacher, kind and settings.
        engine: the teacher, open.
        renderer: the teacher's own template: rows line up with the tokens that it supervises.
        out: folder of the files.

    Raises:
        DanteError: files of another making are there, or the engine cannot do what the kind needs.
    """
    files = sorted(out.glob(f"logits-{header.kind}-*.safetensors"))
    there = SparseLogits(out, header.kind) if files else None
    if there is not None:
        check_same(there.header, header, there.paths[0])
    missing = [record for record in records if there is None or record.id not in there]
    measure = _measure(header, engine)
    number = 1 + int(files[-1].stem.rsplit("-", 1)[1]) if files else 0
    rows: list[tuple[Record, Sparse]] = []
    for record in track(missing, description=f"{header.kind} logits", disable=len(missing) < 20):
        rendered = renderer.render(record.prompt, record.teacher_text)
        start = rendered.supervised.index(True)
        ids = rendered.input_ids[: start + sum(rendered.supervised)]
        rows.append((record, measure(ids, start, record)))
        if len(rows) == RECORDS_PER_FILE:
            write_file(out / file_name(header.kind, number), header, rows)
            number, rows = number + 1, []
    if rows:
        write_file(out / file_name(header.kind, number), header, rows)
    return SparseLogits(out, header.kind)


def _measure(header: Header, engine: Engine) -> Measure:
    codec = header.codec()
    if isinstance(codec, TopKTail):

        def largest(ids: list[int], start: int, record: Record) -> Sparse:
            (scored,) = engine.score([(ids, start)], codec.size)
            return codec.keep(np.array(scored.top_logprobs), np.array(scored.top_ids, dtype=np.int64))

        return largest
    assert isinstance(codec, RandomSampling)
    whole: Any = getattr(engine, "full_logprobs", None)
    if whole is None:
        raise DanteError(
            f"the engine {engine.settings()['name']} does not return whole distributions",
            where="--kind random_sampling",
            fix="use the transformers engine: draws from the largest K alone would be biased",
        )

    def drawn(ids: list[int], start: int, record: Record) -> Sparse:
        rng = np.random.default_rng(int(stable_hash(header.seed, record.id), 16))
        return codec.draw(whole(ids, start).numpy(), rng)

    return drawn
