"""What a finished directory says of itself: `step.json` beside a step's files, `manifest.json` in a run.

Both are written last and atomically, so that their presence means that everything before them is complete.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from dante.errors import DanteError

STEP_FILE = "step.json"
GIB = 2**30


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of text."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or the next start, sees the old content or the new one, never half of one.

    The temporary name is always the same, so what a killed process left is overwritten by the next one.
    """
    temporary = path.with_name(f".{path.name}.writing")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """Wait until a file's content is on the disk, so that a rename after it never shows an empty one."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: Any) -> None:
    """`write_text` of JSON."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a file that is not JSON is an error that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DanteError(
            f"{path} is not valid JSON ({error})", where=str(path), fix="delete the step and rerun"
        ) from None


def user_cache() -> Path:
    """Where the lab keeps what holds for this machine: `~/.cache/dante`, or what `XDG_CACHE_HOME` says."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dante"


def fingerprint(content: Any) -> str:
    """Twelve hex digits that identify plain content, whatever the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_files(directory: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below a directory, but for `step.json` itself."""
    files = sorted(p for p in directory.rglob("*") if p.is_file() and p.name != STEP_FILE)
    return {str(p.relative_to(directory)): {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in files}
