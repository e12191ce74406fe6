"""Writes a cache: numbered shards of independent frames, the index, then the manifest."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from dante.cache.records.columns import Columns
from dante.cache.records.frames import RECORDS_PER_FRAME, compressor
from dante.cache.records.index_file import FILE_NAMES, save_index
from dante.cache.records.manifest import Counts, write_manifest
from dante.cache.records.record import SCHEMA_VERSION, Record, to_line
from dante.cache.split import torn_apart
from dante.errors import DanteError

RECORDS_PER_SHARD = 50_000


class CacheWriter:
    """Writes records into `directory` and seals the cache with its manifest.

    The shards' bytes depend on the records alone: no names, no times, and not on how they were handed over. At most one
    frame of records is held; of the others their ids, what the index says of them, and their distinct prompts. Shards
    left by an interrupted attempt are removed.

    Args:
        directory: where `records-00000.jsonl.zst …`, the index and `manifest.json` go.
        records_per_shard: longest shard.
    """

    def __init__(self, directory: Path | str, records_per_shard: int = RECORDS_PER_SHARD) -> None:
        self.directory, self.records_per_shard = Path(directory), records_per_shard
        self.directory.mkdir(parents=True, exist_ok=True)
        self._remove()
        self._shards: list[dict[str, Any]] = []
        self._pending: list[Record] = []
        self._ids: set[str] = set()
        self._counts, self._columns = Counts(), Columns()
        self._compressor = compressor()
        self._file: BinaryIO | None = None

    def add(self, records: Iterable[Record]) -> "CacheWriter":
        """Appends records; a duplicate id raises `DanteError`."""
        for record in records:
            if record.id in self._ids:
                raise DanteError(f"two records have the id {record.id!r}", where=str(self.directory))
            self._ids.add(record.id)
            self._counts.add(record)
            self._pending.append(record)
            in_shard = len(self._pending) + (self._shards[-1]["records"] if self._file else 0)
            if len(self._pending) == RECORDS_PER_FRAME or in_shard == self.records_per_shard:
                self._write_frame()
            if in_shard == self.records_per_shard:
                self._close_shard()
        return self

    def seal(self, **provenance: Any) -> dict[str, Any]:
        """Writes what is left and the manifest; `provenance` becomes its entries (teacher, decoding, engine, …)."""
        if self._pending:
            self._write_frame()
        if self._file:
            self._close_shard()
        if not self._counts.splits["train"]:
            raise DanteError(
                "the cache would have no training records",
                where=str(self.directory),
                fix="give more prompts, hold out fewer (cache.source.heldout), or look at what the filters dropped",
            )
        if self._counts.torn:
            raise torn_apart(self._counts.torn, str(self.directory))
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "counts": self._counts.as_dict(),
            "shards": self._shards,
            **provenance,
        }
        save_index(self.directory, self._columns.table(), self._shards)
        write_manifest(self.directory, manifest)
        return manifest

    def discard(self) -> None:
        """Removes what was written so far; nothing of an unsealed cache is worth keeping."""
        if self._file:
            self._file.close()
            self._file = None
        self._remove()

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()

    def _remove(self) -> None:
        leftovers = [path for pattern in ("records-*.jsonl*", "manifest.*") for path in self.directory.glob(pattern)]
        for leftover in (*leftovers, *(self.directory / name for name in FILE_NAMES)):
            leftover.unlink(missing_ok=True)

    def _write_frame(self) -> None:
        if self._file is None:
            path = self.directory / f"records-{len(self._shards):05d}.jsonl.zst"
            self._file, self._digest = path.open("wb"), hashlib.sha256()
            self._shards.append({"file": path.name, "sha256": "", "records": 0, "bytes": 0})
        text = "".join(to_line(record) + "\n" for record in self._pending).encode("utf-8")
        frame = self._compressor.compress(text)
        self._file.write(frame)
        self._digest.update(frame)
        shard = self._shards[-1]
        place = len(self._shards) - 1, shard["bytes"], len(frame)
        self._columns.add_block(*place, list(enumerate(self._pending)))
        shard["records"] += len(self._pending)
        shard["bytes"] += len(frame)
        self._pending = []

    def _close_shard(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None
        self._shards[-1]["sha256"] = self._digest.hexdigest()
