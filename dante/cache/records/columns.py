"""One row per record with where it lies and what is asked of it most: the content of a cache's index.

Columns (nullable where a record's field may be null):

    id; shard (number in name order), offset and size (bytes, of its block), line (in the block, from 0);
    split, domain, language, finish_reason (dictionaries of text); output_entropy, output_entropy_upper (nats/token);
    prompt_bytes, answer_bytes (UTF-8), tokens (the teacher's);
    sorted_hash, sorted_row: hashes of all ids in rising order and whose they are, so that an id is found by
    bisection, without a dictionary of a million strings.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from dante.cache.records.conversation import Prompt
from dante.cache.records.record import Record

_TEXT = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("id", pa.large_string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("line", pa.int32(), nullable=False),
        pa.field("split", _TEXT),
        pa.field("output_entropy", pa.float64(), nullable=False),
        pa.field("output_entropy_upper", pa.float64()),
        pa.field("prompt_bytes", pa.int32(), nullable=False),
        pa.field("answer_bytes", pa.int32(), nullable=False),
        pa.field("tokens", pa.int32()),
        pa.field("domain", _TEXT),
        pa.field("language", _TEXT),
        pa.field("finish_reason", _TEXT),
    ]
)
LOOKUP = ("sorted_hash", "sorted_row")
FULL_SCHEMA = SCHEMA.append(pa.field(LOOKUP[0], pa.uint64(), nullable=False)).append(
    pa.field(LOOKUP[1], pa.int64(), nullable=False)
)


def id_hash(identity: str) -> int:
    """64 bits of BLAKE2b over an id; two ids may share it, so whoever looks one up compares the id itself."""
    return int.from_bytes(hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Columns:
    """Collects rows block by block; holds columns, not records."""

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._hashes: list[np.ndarray] = []

    def add_block(self, shard: int, offset: int, size: int, records: Sequence[tuple[int, Record]]) -> None:
        """Rows of one block; `records` are (line in the block, record)."""
        count = len(records)
        rows = [record for _, record in records]
        values = {
            "id": [r.id for r in rows],
            "shard": np.full(count, shard, np.int32),
            "offset": np.full(count, offset, np.int64),
            "size": np.full(count, size, np.int64),
            "line": np.array([line for line, _ in records], np.int32),
            "split": [r.split for r in rows],
            "output_entropy": [float(r.output_entropy) for r in rows],
            "output_entropy_upper": [r.output_entropy_upper for r in rows],
            "prompt_bytes": [prompt_bytes(r.prompt) for r in rows],
            "answer_bytes": [len(r.teacher_text.encode("utf-8")) for r in rows],
            "tokens": [None if r.token_ends is None else len(r.token_ends) for r in rows],
            "domain": [r.domain for r in rows],
            "language": [r.language for r in rows],
            "finish_reason": [r.finish_reason for r in rows],
        }
        self._hashes.append(np.fromiter((id_hash(r.id) for r in rows), np.uint64, count))
        # Dictionaries are made once at the end: their text is few strings, shared here.
        kinds = {field.name: pa.string() if field.type == _TEXT else field.type for field in SCHEMA}
        arrays = [pa.array(values[name], kinds[name]) for name in SCHEMA.names]
        self._batches.append(pa.record_batch(arrays, names=SCHEMA.names))

    def table(self) -> pa.Table:
        """All rows and the sorted hashes, every column in one piece."""
        hashes = np.concatenate([np.zeros(0, np.uint64), *self._hashes])
        order = np.argsort(hashes, kind="stable")
        lookup = [pa.array(hashes[order]), pa.array(order.astype(np.int64))]
        columns = []
        for field in SCHEMA:
            pieces = [batch.column(field.name) for batch in self._batches]
            column = pa.chunked_array(pieces, pa.string() if field.type == _TEXT else field.type)
            columns.append((column.dictionary_encode() if field.type == _TEXT else column).combine_chunks())
        whole = [part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part for part in columns]
        return pa.Table.from_arrays([*whole, *lookup], schema=FULL_SCHEMA)


def prompt_bytes(prompt: Prompt) -> int:
    """UTF-8 bytes of a prompt's text; of messages only their contents count."""
    texts: Iterator[str] = iter([prompt]) if isinstance(prompt, str) else (message["content"] for message in prompt)
    return sum(len(text.encode("utf-8")) for text in texts)
