"""Writes a cache: numbered compressed shards, then the manifest."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import zstandard

from dante.cache.manifest import counts_of, write_manifest
from dante.cache.record import SCHEMA_VERSION, Record, to_line
from dante.errors import DanteError
from dante.teachers.handle import sha256_of

RECORDS_PER_SHARD = 50_000
LEVEL = 19


class CacheWriter:
    """Writes records into `directory` and seals the cache with its manifest.

    The bytes depend on the records alone: no names, no times. Shards left by an interrupted attempt are removed.

    Args:
        directory: where `records-00000.jsonl.zst …` and `manifest.json` go.
        records_per_shard: longest shard.
    """

    def __init__(self, directory: Path | str, records_per_shard: int = RECORDS_PER_SHARD) -> None:
        self.directory, self.records_per_shard = Path(directory), records_per_shard
        self.directory.mkdir(parents=True, exist_ok=True)
        for leftover in (*self.directory.glob("records-*.jsonl*"), *self.directory.glob("manifest.*")):
            leftover.unlink()
        self._shards: list[dict[str, Any]] = []
        self._pending: list[Record] = []
        self._written: list[Record] = []
        self._ids: set[str] = set()

    def add(self, records: Iterable[Record]) -> "CacheWriter":
        """Appends records; a duplicate id raises `DanteError`."""
        for record in records:
            if record.id in self._ids:
                raise DanteError(f"two records have the id {record.id!r}", where=str(self.directory))
            self._ids.add(record.id)
            self._pending.append(record)
            if len(self._pending) == self.records_per_shard:
                self._flush()
        return self

    def seal(self, **provenance: Any) -> dict[str, Any]:
        """Writes what is left and the manifest; `provenance` becomes its entries (teacher, decoding, engine, …)."""
        if self._pending:
            self._flush()
        if not any((record.split or "train") == "train" for record in self._written):
            raise DanteError(
                "the cache would have no training records",
                where=str(self.directory),
                fix="give more prompts, hold out fewer (cache.source.heldout), or look at what the filters dropped",
            )
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "counts": counts_of(self._written),
            "shards": self._shards,
            **provenance,
        }
        write_manifest(self.directory, manifest)
        return manifest

    def _flush(self) -> None:
        path = self.directory / f"records-{len(self._shards):05d}.jsonl.zst"
        text = "".join(to_line(record) + "\n" for record in self._pending).encode("utf-8")
        path.write_bytes(zstandard.ZstdCompressor(level=LEVEL).compress(text))
        self._shards.append(
            {
                "file": path.name,
                "sha256": sha256_of(path),
                "records": len(self._pending),
                "bytes": path.stat().st_size,
            }
        )
        self._written += self._pending
        self._pending = []
