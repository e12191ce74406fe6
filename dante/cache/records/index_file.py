"""The index on disk: `index.arrow`, which is memory-mapped, and `index.json`, which says what it belongs to.

The index is derived from the shards and worth nothing without them. `index.json` names every shard with its SHA-256
and size and the SHA-256 of `index.arrow`; where anything differs the index is not used. Both files are outside the
manifest, so a cache with an index and one without it are the same cache.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from dante.cache.records.columns import FULL_SCHEMA, Columns
from dante.cache.records.fields import FieldError
from dante.cache.records.frames import blocks
from dante.cache.records.reader import CORRECT, parse_line, shard_paths
from dante.cache.records.record import Record
from dante.system.files import sha256, write_text

# Raised when a column is added or changes its meaning, so that old indices are made again.
VERSION = 1
TABLE, BINDING = FILE_NAMES = ("index.arrow", "index.json")


def save_index(directory: Path, table: pa.Table, shards: Sequence[Mapping[str, Any]]) -> None:
    """Writes both files; a reader that comes in between finds the old pair, or two that do not match."""
    partial = directory / f".{TABLE}.writing"
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    digest = sha256(partial)
    os.replace(partial, directory / TABLE)
    binding = {"version": VERSION, "records": len(table), "sha256": digest, "shards": [_identity(s) for s in shards]}
    write_text(directory / BINDING, json.dumps(binding, indent=1, ensure_ascii=False) + "\n")


def load_index(directory: Path, shards: Sequence[Mapping[str, Any]]) -> tuple[pa.Table | None, str]:
    """The memory-mapped table of exactly these shards, or None and why there is none (missing, stale, damaged)."""
    path = directory / TABLE
    try:
        binding = json.loads((directory / BINDING).read_text(encoding="utf-8"))
        if not isinstance(binding, dict) or binding.get("version") != VERSION:
            return None, "of another version"
        if binding.get("shards") != [_identity(shard) for shard in shards]:
            return None, "stale: the shards are not those it was made from"
        if sha256(path) != binding.get("sha256"):
            return None, f"damaged: {TABLE} has not the SHA-256 that {BINDING} names"
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except FileNotFoundError:
        return None, "missing"
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        return None, f"damaged: {error}"
    if table.schema != FULL_SCHEMA or any(column.num_chunks > 1 for column in table.columns):
        return None, "of another schema"
    return table, ""


def make_index(paths: Sequence[Path]) -> pa.Table:
    """The table of some shards, from their lines.

    Raises:
        DanteError: a line that is no record, named by file, line and field.
    """
    columns, seen = Columns(), set[str]()
    for shard, path in enumerate(paths):
        before = 0
        for block in blocks(path):
            lines = block.text.split(b"\n")
            columns.add_block(shard, block.offset, block.size, list(_records(lines, path, before, seen)))
            before += block.text.count(b"\n")
    return columns.table()


def identities(source: Path, shards: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """Name, SHA-256 and size of every shard: as a manifest lists them, otherwise hashed here."""
    if shards is None:
        paths = shard_paths(source)
        return [{"file": p.name, "sha256": sha256(p), "bytes": p.stat().st_size} for p in paths]
    return [_identity(shard) for shard in shards]


def try_to_save(directory: Path, table: pa.Table, shards: Sequence[Mapping[str, Any]]) -> None:
    """`save_index`; a cache that cannot be written to keeps its index in memory."""
    with suppress(OSError):
        save_index(directory, table, shards)


def _identity(shard: Mapping[str, Any]) -> dict[str, Any]:
    return {"file": shard["file"], "sha256": shard["sha256"], "bytes": shard.get("bytes")}


def _records(lines: list[bytes], path: Path, before: int, seen: set[str]) -> Iterator[tuple[int, Record]]:
    for number, line in enumerate(lines):
        if not line or line.isspace():
            continue
        try:
            record = parse_line(line, seen)
        except FieldError as error:
            raise error.at(f"{path}, line {before + number + 1}", CORRECT) from None
        seen.add(record.id)
        yield number, record
