"""`manifest.json`: what a cache holds, who wrote it and how, and the hash of every shard."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from dante.cache.records.frames import REBUILD
from dante.cache.records.record import SCHEMA_VERSION, Record, prompt_hash
from dante.errors import DanteError
from dante.system.files import sha256

FILE_NAME = "manifest.json"


def load_manifest(directory: Path | str) -> dict[str, Any]:
    """The manifest of a cache; raises `DanteError` when there is none or its schema is not this one."""
    path = Path(directory) / FILE_NAME
    if not path.is_file():
        raise DanteError(f"no {FILE_NAME}", where=str(path), fix="run the cache stage: only=cache")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DanteError(f"{FILE_NAME} is not JSON ({error})", where=str(path), fix=REBUILD) from None
    if not isinstance(manifest, dict) or manifest.get("schema_version") != SCHEMA_VERSION:
        version = manifest.get("schema_version") if isinstance(manifest, dict) else None
        raise DanteError(f"schema version {version}", where=str(path), allowed=str(SCHEMA_VERSION), fix=REBUILD)
    return manifest


def write_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest last and at once: a cache with a manifest is complete."""
    path = directory / FILE_NAME
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


class Counts:
    """Counts records as they are written: per split, domain and language, and the teacher's tokens."""

    def __init__(self) -> None:
        self.records = self.tokens = self.text_bytes = 0
        self.splits: Counter[str] = Counter()
        self.domains: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.finish_reasons: Counter[str] = Counter()
        # prompt → (its side, the first record that said so); `torn` names records that said otherwise.
        self._prompts: dict[str, tuple[str, str]] = {}
        self.torn: list[str] = []

    def add(self, record: Record) -> None:
        self.records += 1
        self.tokens += len(record.token_ends or ())
        self.text_bytes += len(record.teacher_text.encode("utf-8"))
        self.splits[record.split or "train"] += 1
        self.domains[record.domain or "unknown"] += 1
        self.languages[record.language or "unknown"] += 1
        self.finish_reasons[record.finish_reason or "unknown"] += 1
        # A hash, so that a million prompts are not held for the sake of counting them.
        side = record.split or "train"
        named, first = self._prompts.setdefault(prompt_hash(record.prompt), (side, record.id))
        if side != named:
            self.torn.append(f"{first} ({named}) and {record.id} ({side})")

    def as_dict(self) -> dict[str, Any]:
        """The manifest's entry `counts`."""
        return {
            "records": self.records,
            "train": self.splits["train"],
            "heldout": self.splits["heldout"],
            "validation": self.splits["validation"],
            "prompts": len(self._prompts),
            "teacher_tokens": self.tokens or None,
            "teacher_bytes": self.text_bytes,
            "domains": dict(sorted(self.domains.items())),
            "languages": dict(sorted(self.languages.items())),
            "finish_reasons": dict(sorted(self.finish_reasons.items())),
        }


def shards_present(directory: Path) -> set[str]:
    """Names of the shards that lie in a cache directory."""
    return {path.name for path in directory.glob("records-*.jsonl*")}


def check_listing(directory: Path | str) -> dict[str, Any]:
    """Checks that the manifest's shards are there, with their sizes, and no others; no byte of them is read.

    Returns the manifest.
    """
    directory = Path(directory)
    manifest = load_manifest(directory)
    listed = {shard["file"]: shard for shard in manifest["shards"]}
    present = shards_present(directory)
    if present != set(listed):
        different = sorted(present ^ set(listed))
        raise DanteError(f"shards and manifest disagree about {different}", where=str(directory), fix=REBUILD)
    for name, shard in listed.items():
        path = directory / name
        if shard.get("bytes", path.stat().st_size) != path.stat().st_size:
            raise DanteError(
                f"the shard has {path.stat().st_size} bytes, so its SHA-256 differs too",
                where=str(path),
                allowed=f"{shard['bytes']} bytes",
                fix=REBUILD,
            )
    return manifest


def verify(directory: Path | str) -> dict[str, Any]:
    """Checks that every shard is there with the hash and size of the manifest, and that nothing is there besides.

    Returns the manifest; stops at the first problem (`python -m dante.cache verify` lists all of them). Lines are not
    parsed here: equal hashes mean equal lines, and the writer counted them.
    """
    directory = Path(directory)
    manifest = check_listing(directory)
    for shard in manifest["shards"]:
        path = directory / shard["file"]
        digest = sha256(path)
        if digest != shard["sha256"]:
            raise DanteError(f"SHA-256 is {digest}", where=str(path), allowed=shard["sha256"], fix=REBUILD)
    total = sum(shard["records"] for shard in manifest["shards"])
    if total != manifest["counts"]["records"]:
        raise DanteError(
            f"the shards hold {total} records",
            where=str(directory),
            allowed=str(manifest["counts"]["records"]),
            fix=REBUILD,
        )
    return manifest
