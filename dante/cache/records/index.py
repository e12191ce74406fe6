"""Random access to a cache of any size: a memory-mapped index of all records, and one block read per record.

Opening costs neither time nor memory in proportion to the records' text: a million records open in under two seconds
(see benchmarks/README.md).
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dante.cache.records.columns import LOOKUP, id_hash
from dante.cache.records.fields import FieldError
from dante.cache.records.frames import REBUILD, read_block
from dante.cache.records.index_file import identities, load_index, make_index, try_to_save
from dante.cache.records.manifest import FILE_NAME, check_listing, verify
from dante.cache.records.reader import parse_line, shard_paths
from dante.cache.records.record import Record
from dante.errors import DanteError

# Decompressed blocks that are kept, so that reading in order decompresses each once.
KEPT_BYTES = 64 << 20


class IndexedCache:
    """The records of a cache by number and by id.

    The index is used only if it belongs to exactly the shards of the manifest (names, SHA-256, sizes) and is whole;
    otherwise it is made again from the shards, whose hashes are then checked first. Opening does not hash the shards:
    a damaged block is noticed when it is read (frames carry a checksum, and the record must have the id of the index),
    and `python -m dante.cache verify` checks every byte.

    Args:
        source: a cache directory, with or without a manifest, or one `.jsonl` / `.jsonl.zst` file.
        keep: write an index that had to be made beside the shards (never for a single file).

    Raises:
        DanteError: no cache, shards that are not the manifest's, or a line that is no record.
    """

    def __init__(self, source: Path | str, keep: bool = True) -> None:
        self.source, self.keep = Path(source), keep
        self._blocks: OrderedDict[tuple[int, int], list[bytes]] = OrderedDict()
        self._kept_bytes = 0
        sealed = (self.source / FILE_NAME).is_file()
        shards = check_listing(self.source)["shards"] if sealed else None
        # Numbered as the index numbers them: in the manifest's order, which is that of names.
        self._paths = shard_paths(self.source) if shards is None else [self.source / s["file"] for s in shards]
        bound_to = identities(self.source, shards) if self.source.is_dir() else []
        table, why = load_index(self.source, bound_to) if bound_to else (None, "of a single file: not kept")
        self.made_because = why
        if table is None:
            if sealed:
                verify(self.source)
            table = make_index(self._paths)
            if keep and bound_to:
                try_to_save(self.source, table, bound_to)
        self.columns: pa.Table = table.drop_columns(list(LOOKUP))
        self._hashes, self._rows = (table.column(name).to_numpy() for name in LOOKUP)
        self._places = [table.column(name).to_numpy() for name in ("shard", "offset", "size", "line")]

    def __len__(self) -> int:
        return self.columns.num_rows

    def __reduce__(self) -> tuple[Any, ...]:
        """Worker processes open the index for themselves instead of receiving it."""
        return type(self), (self.source, self.keep)

    @property
    def ids(self) -> pa.ChunkedArray:
        """All ids in the order of the shards, memory-mapped; `ids.to_pylist()` copies them."""
        return self.columns.column("id")

    def record(self, index: int) -> Record:
        """The record at `index` in the order of the shards; negative ones count from the end.

        Raises:
            IndexError: there is no such record.
            DanteError: the shard is not what the index was made from.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        shard, offset, size, line = (int(column[index]) for column in self._places)
        path, lines = self._paths[shard], self._lines(shard, offset, size)
        try:
            record = parse_line(lines[line], set())
        except (FieldError, IndexError) as error:
            raise DanteError(f"record {index} is damaged ({error})", where=str(path), fix=REBUILD) from None
        expected = self.ids[index].as_py()
        if record.id != expected:
            raise DanteError(
                f"record {index} has the id {record.id!r}, the index says {expected!r}",
                where=str(path),
                fix="python -m dante.cache verify names what changed; without index.json the index is made again",
            )
        return record

    def row_of(self, identity: str) -> int | None:
        """Number of the record with this id, or None."""
        key = np.uint64(id_hash(identity))
        start, end = np.searchsorted(self._hashes, key, "left"), np.searchsorted(self._hashes, key, "right")
        for row in self._rows[start:end].tolist():
            if self.ids[row].as_py() == identity:
                return row
        return None

    def by_id(self, identity: str) -> Record:
        """The record with this id.

        Raises:
            DanteError: there is none.
        """
        row = self.row_of(identity)
        if row is None:
            raise DanteError(f"the cache has no record {identity!r}", where=str(self.source))
        return self.record(row)

    def _lines(self, shard: int, offset: int, size: int) -> list[bytes]:
        key = shard, offset
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        lines = read_block(self._paths[shard], offset, size).split(b"\n")
        self._blocks[key] = lines
        self._kept_bytes += sum(map(len, lines))
        while self._kept_bytes > KEPT_BYTES and len(self._blocks) > 1:
            _, dropped = self._blocks.popitem(last=False)
            self._kept_bytes -= sum(map(len, dropped))
        return lines
