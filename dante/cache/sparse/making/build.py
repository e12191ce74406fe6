"""Makes the sparse logits of a cache's records with the cache's own teacher, batch by batch."""

from collections.abc import Iterator, Sequence

from dante.cache.records.record import Record
from dante.cache.sparse.files import Encoded, encode
from dante.cache.sparse.making.measure import measure, probe, texts_of
from dante.cache.sparse.making.progress import Bar
from dante.cache.sparse.making.store import Store
from dante.teachers.engines.base import Engine
from dante.text.chat import ChatRenderer


def batches(wanted: Sequence[Record], missing: Sequence[Record], size: int) -> Iterator[list[Record]]:
    """What is missing of each batch; the cut is that of all wanted records, so it is the same after a kill."""
    absent = {record.id for record in missing}
    for start in range(0, len(wanted), size):
        batch = [record for record in wanted[start : start + size] if record.id in absent]
        if batch:
            yield batch


def build(
    store: Store, wanted: Sequence[Record], engine: Engine, renderer: ChatRenderer, batch_records: int, bar: Bar
) -> None:
    """Adds the rows of every record that has none yet. In memory are one batch, and the rows of one file.

    Args:
        store: where rows go.
        wanted: all records, in the order of the store.
        engine: the teacher, open.
        renderer: the teacher's own template.
        batch_records: records per batch: what an interruption costs at most.
        bar: told of every batch.

    Raises:
        DanteError: the engine cannot do what the kind needs, or fails.
    """
    if store.missing:
        probe(engine, store.header, texts_of(store.missing[:1], renderer)[0])
    for batch in batches(wanted, store.missing, batch_records):
        texts = texts_of(batch, renderer)
        rows: list[Encoded] = []
        for text, kept in zip(texts, measure(engine, store.header, texts), strict=True):
            rows.append(encode(store.header, text.record, kept))
            bar.advance(rows[-1])
        store.add(rows)
