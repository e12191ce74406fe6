"""SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 (SLURM's warning, submitit's): stop in an orderly way.

Outside a fit's loop a signal raises `Interrupted` where it arrives: every lock is released on the way out, and a step
that is not complete stays a `.partial` directory. Inside the loop (`deferred`) it only leaves a note, and the loop
stops itself between two optimizer steps, after it has written a checkpoint.

Python's own handlers run between two of its instructions, and a backward pass is a single one, minutes long on a slow
machine. So a thread listens, too: it says at once what is being waited for, and a second request ends the process even
then. That is as safe as SIGKILL, which a run survives at any moment.
"""

import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138, signal.SIGUSR2: 140}
# A terminal, torchrun and SLURM send one request to every process, and launchers forward it: seconds within which a
# second signal is taken for the same request.
SAME_REQUEST_S = 2.0
# A second request raises; where nothing comes to raise it (one long instruction), the process ends after this while.
GRACE_S = 3.0
# Who sends these twice does not want to wait. SLURM's warnings (SIGUSR1, SIGUSR2) come long before its SIGTERM.
_ENDS = {signal.SIGINT, signal.SIGTERM}
Waiting = Callable[[], str]
Say = Callable[[str], None]
_PRINT: Say = functools.partial(print, flush=True)


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
    waiting: Waiting | None = None
    say: Say = _PRINT
    pending: signal.Signals | None = None
    since_s = 0.0
    ends_since_s: float | None = None  # since when an end was asked for, and not only warned of


@contextmanager
def handled(say: Say = _PRINT) -> Iterator[None]:
    """Handle the signals while the body runs; afterwards the handlers that were there before are back.

    Args:
        say: shows one line to the user; called from another thread, at any moment.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.owner, _State.deferred, _State.pending, _State.ends_since_s = os.getpid(), False, None, None
    _State.say = staticmethod(say)
    before: dict[signal.Signals, Any] = {number: signal.signal(number, _handle) for number in EXIT_CODES}
    try:
        with _listening():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        _State.pending = None


@contextmanager
def deferred(waiting: Waiting | None = None) -> Iterator[None]:
    """Inside, a signal is noted (`requested`) and not raised; whoever is inside stops when it can.

    A second SIGINT or SIGTERM, later than `SAME_REQUEST_S`, is somebody who does not want to wait: it is raised.

    Args:
        waiting: what a signal waits for, in words; called from another thread, at any moment.
    """
    _State.deferred, _State.waiting = True, waiting
    try:
        yield
    finally:
        _State.deferred, _State.waiting = False, None


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
    again = _asked_again(signum, now)
    if not first and not again and now - _State.since_s < SAME_REQUEST_S:
        return
    if _State.deferred and not again:
        return
    raise Interrupted(signum)


def _asked_again(signum: int, now_s: float) -> bool:
    """Whether this is a second request to end; notes the first."""
    if signum not in _ENDS:
        return False
    if _State.ends_since_s is None:
        _State.ends_since_s = now_s
    return now_s - _State.ends_since_s >= SAME_REQUEST_S


@contextmanager
def _listening() -> Iterator[None]:
    """A thread that hears of signals when they come, whatever the main thread is in the middle of."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    before = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    thread = threading.Thread(target=_listen, args=(reads,), name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writes)  # the end of what the thread reads
        thread.join()
        os.close(reads)


def _listen(reads: int) -> None:
    announced, first_end_s = False, None
    while heard := os.read(reads, 1):
        number, now = heard[0], time.monotonic()
        if number not in EXIT_CODES or not _State.deferred:
            continue
        signum = signal.Signals(number)
        if not announced:
            announced = True
            _State.say(f"{signum.name}: {_State.waiting() if _State.waiting else 'stopping as soon as that is safe'}")
        if number in _ENDS and first_end_s is None:
            first_end_s = now
        elif number in _ENDS and first_end_s is not None and now - first_end_s >= SAME_REQUEST_S:
            threading.Thread(target=_end, args=(signum,), daemon=True).start()


def _end(signum: signal.Signals) -> None:
    """End the process if the main thread does not."""
    time.sleep(GRACE_S)
    if not _State.deferred:
        return
    _State.say(f"stopped by {signum.name} in the middle of it; the same command continues")
    os._exit(EXIT_CODES[signum])
