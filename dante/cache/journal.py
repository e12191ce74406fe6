"""Finished generation batches on disk, so that a killed run loses at most the batch it was in.

The plan (which requests form which batch) is fixed before anything runs. In bfloat16 a greedy text depends on the
batch it was generated in, so a batch is kept whole or redone whole: one file per batch, written beside its name and
renamed. A file carries the key of its batch; one whose key differs (other prompts, decoding, teacher) is redone.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dante.manifest import write_text
from dante.teachers.engine import Decoding, Generation, Request

FOLDER = "batches"


def batch_key(teacher: str, engine: dict[str, Any], decoding: Decoding, requests: list[Request]) -> str:
    """Identity of one batch: teacher, engine settings, decoding, and every prompt in it."""
    content = [teacher, engine, decoding.as_dict(), [[request.prompt_ids, request.seed] for request in requests]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Journal:
    """The folder of finished batches under a step's directory."""

    def __init__(self, directory: Path) -> None:
        self.folder = directory / FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)

    def load(self, index: int, key: str) -> list[Generation] | None:
        """The generations of batch `index`, or None when it is not there or belongs to another plan."""
        path = self._path(index)
        if not path.is_file():
            return None
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return [Generation(**fields) for fields in stored["generations"]] if stored["key"] == key else None
        except (ValueError, KeyError, TypeError):  # damaged: a batch can always be generated again
            return None

    def store(self, index: int, key: str, generations: list[Generation]) -> None:
        """Writes batch `index`; it is there completely or not at all."""
        content = {"key": key, "generations": [asdict(g) for g in generations]}
        write_text(self._path(index), json.dumps(content, ensure_ascii=False))

    def version(self, current: str | None = None) -> str:
        """Notes and returns the engine's version; several ones when batches come from different versions."""
        path = self.folder / "versions.json"
        try:
            known: list[str] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            known = []
        if current is not None and current not in known:
            known.append(current)
            write_text(path, json.dumps(known))
        return ", ".join(known)

    def _path(self, index: int) -> Path:
        return self.folder / f"batch-{index:05d}.json"
