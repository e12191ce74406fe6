"""What a step reads from outside the run, as content: size and SHA-256, never the path alone.

A hash is remembered for the file's path, size and times of change, so a folder of 60 GB is read once and not at every
start. The memory is one small file per hashed file in `~/.cache/dante/hashes` (`XDG_CACHE_HOME` moves it); whoever
deletes it loses time only. Hub ids are not looked at: their revision is their identity.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from rich.progress import track

from dante import console
from dante.system import locks
from dante.system.files import GIB, sha256, user_cache, write_json

# Keys of a cache's parts whose values may be a file or a folder.
_NAMING = {"path", "id", "tokenizer"}
# Files of a model folder that loading reads, and what a trainer leaves beside them.
_READ = {".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken", ".gguf"}
_LEFT_BY_TRAINERS = {"trainer_state.json"}
# A file that was written within this time may be written again without its time of change telling.
_SETTLED_NS = 2_000_000_000
# Smaller files are hashed sooner than they are looked up.
_REMEMBERED_BYTES = 2**20
_TOLD_BYTES = GIB


def model_identity(folder: Path) -> dict[str, Any]:
    """Size and SHA-256 of every file of a model folder that loading may read; empty while it does not exist."""
    candidates = [*folder.glob("*"), *folder.glob("additional_chat_templates/*")]
    files = [
        path for path in candidates if path.suffix in _READ and path.name not in _LEFT_BY_TRAINERS and path.is_file()
    ]
    return {
        str(path.relative_to(folder)): facts for path, facts in zip(sorted(files), _all(sorted(files)), strict=True)
    }


def file_identity(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of one file."""
    return _all([path])[0]


def named_files(settings: Any, key: str = "") -> dict[str, Any]:
    """Identity of every file and folder that settings name, at any depth, under a key that names such things.

    Prompts, evaluation sets, tokenizers, saved datasets: a key here is what the parts of a cache call them. Of a
    tokenizer's folder the weights do not matter, of a dataset's everything does.
    """
    if isinstance(settings, dict):
        nested_files = [named_files(value, str(name)) for name, value in settings.items()]
        return {path: facts for part_files in nested_files for path, facts in part_files.items()}
    if key not in _NAMING or not isinstance(settings, str):
        return {}
    path = Path(settings).expanduser()
    files = sorted(path.rglob("*")) if path.is_dir() and key == "id" else sorted(path.glob("*")) or [path]
    kept = [
        file for file in files if file.is_file() and (key != "tokenizer" or file.suffix in _READ - {".safetensors"})
    ]
    facts = {str(file.relative_to(path)): identity for file, identity in zip(kept, _all(kept), strict=True)}
    return {settings: facts} if facts else {}


def _all(files: list[Path]) -> list[dict[str, Any]]:
    unknown = sum(path.stat().st_size for path in files if _remembered(path) is None)
    announced = unknown > _TOLD_BYTES
    if announced and not console.is_terminal():
        console.info(f"reading {unknown / GIB:.0f} GiB in {files[0].parent} once, for their hash")
    return [
        _identity(path)
        for path in track(files, "hashing", console=console.screen(), transient=True, disable=not announced)
    ]


def _identity(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size < _REMEMBERED_BYTES:
        return {"bytes": size, "sha256": sha256(path)}
    note = _note(path)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        # Ranks and points of a sweep start together: one reads the file, the others wait for what it finds.
        with locks.hold(note.with_suffix(".lock"), waiting=lambda owner: None):
            return {"bytes": size, "sha256": _remembered(path) or _remember(path, note)}
    except OSError:  # no home that can be written: hashed again at the next start
        path.stat()  # unless it is the file itself that cannot be read
        return {"bytes": size, "sha256": _once(str(path), *_times(path))}


def _remembered(path: Path) -> str | None:
    try:
        note = json.loads(_note(path).read_text(encoding="utf-8"))
        return str(note["sha256"]) if note["times"] == list(_times(path)) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(path: Path, note: Path) -> str:
    before = _times(path)
    digest = sha256(path)
    if before == _times(path) and time.time_ns() - max(before[1:]) > _SETTLED_NS:
        write_json(note, {"path": str(path.resolve()), "times": list(before), "sha256": digest})
    return digest


@functools.cache
def _once(path: str, *times: int) -> str:
    return sha256(Path(path))


def _times(path: Path) -> tuple[int, int, int]:
    """Bytes, time of the last change of the content, and of anything about the file: a copy may keep the former."""
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _note(path: Path) -> Path:
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    return user_cache() / "hashes" / f"{name}.json"
