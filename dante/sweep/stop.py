"""A sweep whose points run in this process's own workers stops in an orderly way.

joblib kills its workers and everything below them when an exception passes through it, fits in mid-step included. So a
signal is only noted while they run, and a file tells them: each asks its point to stop, which writes a checkpoint, and
starts no other.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dante.system import interrupt

# Environment of a point: the file that tells it to stop.
STOP = "DANTE_STOP"
_POLL_S = 0.2


def _waiting() -> str:
    return "the runs in progress stop after a checkpoint; once more, and they end at once"


@contextmanager
def through(file: Path) -> Iterator[None]:
    """While the body runs, a signal to this process makes `file` appear; it is raised after the body has ended.

    Raises:
        Interrupted: a signal came.
    """
    file.unlink(missing_ok=True)
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if interrupt.requested() is not None:
                file.touch()
                return
            time.sleep(_POLL_S)

    watcher = threading.Thread(target=watch, daemon=True, name="sweep-stop")
    watcher.start()
    try:
        with interrupt.deferred(_waiting):
            yield
    finally:
        over.set()
        watcher.join()
        file.unlink(missing_ok=True)
    interrupt.check("in a sweep")
