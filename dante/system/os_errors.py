"""Errors of the operating system in this lab's words: a full disk, no permission, a path that is none."""

import errno
import os
from pathlib import Path

from dante.errors import DanteError, causes
from dante.system.files import GIB

CONTINUES = "the same command continues: complete steps and the last checkpoint are intact"
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_DIRECTORY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}


def as_dante_error(error: BaseException, doing: str, where: Path) -> DanteError | None:
    """The `OSError` behind an exception as a `DanteError`, or None where there is none behind it.

    Args:
        error: what was caught; its causes are looked at, too.
        doing: whose error it is: `step 'fit'`.
        where: the directory that was being written, for errors that name no file.
    """
    for cause in causes(error, _is_full):
        code = _code(cause)
        if code is None:
            continue
        named = getattr(cause, "filename", None)
        path = Path(os.fsdecode(named)) if isinstance(named, str | bytes) else where
        if code in _FULL:
            return DanteError(
                f"{_FULL[code]}: {doing} could not be written",
                where=f"{path} ({_free(path)})",
                fix=f"free some space there; {CONTINUES}",
            )
        message = os.strerror(code) if code else str(cause)
        if code in _REFUSED:
            return DanteError(
                f"{doing} cannot be written or read here: {message}",
                where=str(path),
                fix="set run.dir to a folder that you may write, or correct the permissions",
            )
        if code in _NO_DIRECTORY:
            return DanteError(
                f"{doing} needs a directory where something else is: {message}",
                where=str(path),
                fix="set run.dir to another path, or move away what is there",
            )
        return DanteError(f"{doing} failed on a file: {message}", where=str(path), fix=f"see to it; {CONTINUES}")
    return None


def _is_full(context: BaseException) -> bool:
    """A context is what was being handled, not what went wrong; but cleaning up after a full disk fails, too."""
    return _code(context) in _FULL


def _code(error: BaseException) -> int | None:
    """The error number; 0 for an OSError without one. Libraries in Rust hand it over as text only."""
    if isinstance(error, OSError):
        return error.errno or 0
    text = str(error)
    return errno.ENOSPC if f"(os error {errno.ENOSPC})" in text or os.strerror(errno.ENOSPC) in text else None


def _free(path: Path) -> str:
    free = free_bytes(path)
    return "free space unknown" if free is None else f"{free / GIB:.3f} GiB free"


def free_bytes(path: Path) -> int | None:
    """Space left on the file system that a path lies on, or would lie on."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        facts = os.statvfs(path)
    except OSError:
        return None
    return facts.f_bavail * facts.f_frsize
