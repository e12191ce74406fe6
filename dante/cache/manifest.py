"""`manifest.json`: what a cache holds, who wrote it and how, and the hash of every shard."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from dante.cache.record import SCHEMA_VERSION, Record
from dante.errors import DanteError
from dante.teachers.handle import sha256_of

FILE_NAME = "manifest.json"
REBUILD = "rebuild the cache, or take its files from where they were published"


def load_manifest(directory: Path | str) -> dict[str, Any]:
    """The manifest of a cache; raises `DanteError` when there is none or its schema is not this one."""
    path = Path(directory) / FILE_NAME
    if not path.is_file():
        raise DanteError(f"no {FILE_NAME}", where=str(path), fix="run the cache stage: only=cache")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DanteError(f"{FILE_NAME} is not JSON ({error})", where=str(path), fix=REBUILD) from None
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise DanteError(
            f"schema version {manifest.get('schema_version')}",
            where=str(path),
            allowed=str(SCHEMA_VERSION),
            fix=REBUILD,
        )
    return manifest


def write_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest last and at once: a cache with a manifest is complete."""
    path = directory / FILE_NAME
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def counts_of(records: list[Record]) -> dict[str, Any]:
    """Records per split, domain and language, and the teacher's tokens."""
    splits = Counter(record.split or "train" for record in records)
    tokens = sum(len(record.token_ends or ()) for record in records)
    return {
        "records": len(records),
        "train": splits["train"],
        "heldout": splits["heldout"],
        "validation": splits["validation"],
        "prompts": len({str(record.prompt) for record in records}),
        "teacher_tokens": tokens if tokens else None,
        "teacher_bytes": sum(len(record.teacher_text.encode("utf-8")) for record in records),
        "domains": dict(sorted(Counter(record.domain or "unknown" for record in records).items())),
        "languages": dict(sorted(Counter(record.language or "unknown" for record in records).items())),
        "finish_reasons": dict(sorted(Counter(record.finish_reason or "unknown" for record in records).items())),
    }


def verify(directory: Path | str) -> dict[str, Any]:
    """Checks that every shard is there with the hash and size of the manifest, and that nothing is there besides.

    Returns the manifest. Lines are not parsed here: equal hashes mean equal lines, and the writer counted them.
    """
    directory = Path(directory)
    manifest = load_manifest(directory)
    listed = {shard["file"]: shard for shard in manifest["shards"]}
    present = {path.name for path in directory.glob("records-*.jsonl*")}
    if present != set(listed):
        different = sorted(present ^ set(listed))
        raise DanteError(f"shards and manifest disagree about {different}", where=str(directory), fix=REBUILD)
    for name, shard in listed.items():
        path = directory / name
        found = sha256_of(path)
        if found != shard["sha256"]:
            raise DanteError(f"SHA-256 is {found}", where=str(path), allowed=shard["sha256"], fix=REBUILD)
    total = sum(shard["records"] for shard in listed.values())
    if total != manifest["counts"]["records"]:
        raise DanteError(
            f"the shards hold {total} records",
            where=str(directory),
            allowed=str(manifest["counts"]["records"]),
            fix=REBUILD,
        )
    return manifest
