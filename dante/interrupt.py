"""SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 (SLURM's warning, submitit's): stop in an orderly way.

Outside a fit's loop a signal raises `Interrupted` where it arrives: every lock is released on the way out, and a step
that is not complete stays a `.partial` directory. Inside the loop (`deferred`) it only leaves a note, and the loop
stops itself between two optimizer steps, after it has written a checkpoint.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138, signal.SIGUSR2: 140}
# A terminal, torchrun and SLURM send one request to every process, and launchers forward it: seconds within which a
# second signal is taken for the same request.
SAME_REQUEST_S = 2.0


class Interrupted(BaseException):
    """The run was asked to stop. No `Exception`, so that no library takes it for an error that it may swallow.

    Args:
        signum: what asked.
        where: `after step 7`, `in step 'eval'`; filled in by whoever knows.
    """

    def __init__(self, signum: int, where: str = "") -> None:
        super().__init__(signum, where)
        self.signal = signal.Signals(signum)
        self.where = where

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.signal]

    def __str__(self) -> str:
        return f"stopped by {self.signal.name}{f' {self.where}' if self.where else ''}; the same command continues"


class _State:
    """What the handlers know. One per process, as signal handlers are."""

    owner = 0
    deferred = False
    pending: signal.Signals | None = None
    since_s = 0.0


@contextmanager
def handled() -> Iterator[None]:
    """Handle the signals while the body runs; afterwards the handlers that were there before are back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.owner, _State.deferred, _State.pending = os.getpid(), False, None
    before: dict[signal.Signals, Any] = {number: signal.signal(number, _handle) for number in EXIT_CODES}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        _State.pending = None


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal is noted (`requested`) and not raised; whoever is inside stops when it can.

    A second SIGINT, later than `SAME_REQUEST_S`, is somebody who does not want to wait: it is raised at once.
    """
    _State.deferred = True
    try:
        yield
    finally:
        _State.deferred = False


def requested() -> signal.Signals | None:
    """The signal that asked this process to stop, if one did."""
    return _State.pending


def check(where: str) -> None:
    """Raise `Interrupted` if a stop was asked for and nothing has acted on it yet."""
    if _State.pending is not None:
        raise Interrupted(_State.pending, where)


def ignore_in_worker(worker: int) -> None:
    """For data loader workers: the main process decides when a fit stops, even if a signal went to every process."""
    from lightning.fabric.utilities.seed import pl_worker_init_function

    pl_worker_init_function(worker)  # Lightning sets it by itself only where no other function is given
    for number in EXIT_CODES:
        signal.signal(number, signal.SIG_IGN)


def _handle(signum: int, frame: FrameType | None) -> None:
    if os.getpid() != _State.owner:  # a forked data loader worker: its parent decides for both
        return
    now, first = time.monotonic(), _State.pending is None
    if first:
        _State.pending, _State.since_s = signal.Signals(signum), now
    elif now - _State.since_s < SAME_REQUEST_S:
        return
    if _State.deferred and (first or signum != signal.SIGINT):
        return
    raise Interrupted(signum)
