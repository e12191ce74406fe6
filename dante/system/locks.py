"""Locks that say who holds them.

The lock itself is the kernel's (`flock`), so it is gone with the process that held it, however that ended. Beside it
lies `<lock>.owner` with the holder's host and process id: for messages only, never the lock.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from dante.system.files import write_json

POLL_S = 0.5
# Data loader workers inherit the lock of a killed process and look for their parent every 5 s (torch's
# MP_STATUS_CHECK_INTERVAL): a lock whose holder is dead is free after that.
ORPHANS_S = 20.0


@dataclass(frozen=True)
class Owner:
    """Who holds, or held, a lock."""

    host: str
    pid: int

    @property
    def dead(self) -> bool:
        """Whether this is known to have ended: only of a process on this machine."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Busy(Exception):
    """Somebody else holds the lock; `owner` is None when it has not said so."""

    def __init__(self, owner: Owner | None) -> None:
        super().__init__(str(owner))
        self.owner = owner

    def __str__(self) -> str:
        return str(self.owner or "another process")


@contextmanager
def hold(path: Path, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock at `path` (its folder must exist).

    Args:
        path: the lock file; it stays, because removing a locked file would let two holders in.
        waiting: called once, with who holds it, before waiting for as long as it takes; None: do not wait.

    Raises:
        Busy: somebody else holds it and `waiting` is None.
    """
    lock = FileLock(path)
    announced, deadline = False, time.monotonic() + ORPHANS_S
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            owner = owner_of(path)
            orphaned = owner is not None and owner.dead and time.monotonic() < deadline
            if waiting is None and not orphaned:
                raise Busy(owner) from None
            if waiting is not None and not announced and not orphaned:
                waiting(str(Busy(owner)))
                announced = True
            time.sleep(POLL_S)
    try:
        write_json(_note(path), asdict(Owner(socket.gethostname(), os.getpid())))
        yield
    finally:
        _note(path).unlink(missing_ok=True)
        lock.release()


def owner_of(path: Path) -> Owner | None:
    """Who says that it holds the lock at `path`."""
    try:
        return Owner(**json.loads(_note(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.owner")
