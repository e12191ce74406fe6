"""Directories of finished steps: published whole, checked before they are used, put aside when damaged.

A step `fit-<fingerprint>` has up to four neighbours in the store:

    fit-….partial   being written, or what an interrupted attempt left; with a `step.json` it is finished
    fit-…           finished; `step.json` lists size and SHA-256 of every file
    fit-….old       the result before this one, while the new one takes its place
    fit-….damaged   a result that did not match its `step.json`, kept until somebody deletes it

Every change is one rename, and `settle` finishes what a killed process left between two of them.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from dante.system.files import STEP_FILE, describe_files, flush, sha256, write_json

# A finished step up to this size is hashed whenever it is looked at (SHA-256 of 64 MiB takes 0.05 to 0.2 s); a larger
# one when a file is younger than its `step.json`, and always before another step reads it.
ALWAYS_HASHED_BYTES = 64 * 2**20

_hashes: dict[tuple[str, int, int], str] = {}  # (path, bytes, mtime_ns) → SHA-256, for this process


def partial_of(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.partial")


def lock_of(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.lock")


def read_description(directory: Path) -> dict[str, Any] | None:
    """Content of `step.json`; None where it is missing or not what this lab writes."""
    try:
        content = json.loads((directory / STEP_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    files = content.get("files") if isinstance(content, dict) else None
    described = isinstance(files, dict) and all(
        isinstance(facts, dict) and {"bytes", "sha256"} <= facts.keys() for facts in files.values()
    )
    return content if described else None


def damage(directory: Path, *, thorough: bool) -> list[str]:
    """Names of the files of a finished step that are gone or changed; `step.json` itself when it cannot be read.

    Args:
        directory: a directory that exists.
        thorough: compare the hashes of all files, not only where that is cheap or a file is suspiciously young.
    """
    description = read_description(directory)
    if description is None:
        return [STEP_FILE]
    files: dict[str, dict[str, Any]] = description["files"]
    hashed = thorough or sum(facts["bytes"] for facts in files.values()) <= ALWAYS_HASHED_BYTES
    written_ns = (directory / STEP_FILE).stat().st_mtime_ns
    wrong = []
    for name, facts in files.items():
        path = directory / name
        if not _matches(path, facts, hashed, written_ns):
            wrong.append(name)
    return wrong


def _matches(path: Path, facts: dict[str, Any], hashed: bool, written_ns: int) -> bool:
    if not path.is_file() or path.stat().st_size != facts["bytes"]:
        return False
    young = path.stat().st_mtime_ns > written_ns
    return not (hashed or young) or _hash(path) == facts["sha256"]


def _hash(path: Path) -> str:
    facts = path.stat()
    key = (str(path), facts.st_size, facts.st_mtime_ns)
    if key not in _hashes:
        _hashes[key] = sha256(path)
    return _hashes[key]


def publish(directory: Path, description: dict[str, Any]) -> None:
    """Make the `.partial` neighbour the finished step: its files are on disk, then `step.json`, then the renames."""
    partial = partial_of(directory)
    files = describe_files(partial)
    for name in files:
        flush(partial / name)
    write_json(partial / STEP_FILE, {**description, "files": files})
    take_the_place(directory)


def settle(directory: Path) -> None:
    """Finish what a killed process left between two renames. Call it under the step's lock."""
    partial, old = partial_of(directory), _old_of(directory)
    if (partial / STEP_FILE).exists():
        if damage(partial, thorough=True):
            (partial / STEP_FILE).unlink()  # so that the stage continues, or begins anew
        else:
            take_the_place(directory)
    if old.exists():
        if directory.exists():
            shutil.rmtree(old)
        else:
            old.rename(directory)


def unsettled(directory: Path) -> bool:
    """Whether `settle` has something to do."""
    return (partial_of(directory) / STEP_FILE).exists() or _old_of(directory).exists()


def put_aside(directory: Path) -> Path:
    """Move a damaged step out of the way, over an earlier damaged one, and say where it lies now."""
    aside = directory.with_name(f"{directory.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    directory.rename(aside)
    return aside


def take_the_place(directory: Path) -> None:
    """Make the `.partial` neighbour the directory; killed in between, `settle` puts back what was there before."""
    old = _old_of(directory)
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)
        directory.rename(old)
    partial_of(directory).rename(directory)
    flush(directory.parent)
    shutil.rmtree(old, ignore_errors=True)


def _old_of(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.old")
