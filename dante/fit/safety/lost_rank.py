"""What happens to a distributed fit when one of its processes dies.

Usually the next collective fails on the others within a second (gloo) and `lost` says why. A collective that does not
notice (NCCL, until its own timeout) is what the watches are for: rank 0 watches the processes that it started, and
these watch rank 0. Processes of torchrun and srun are watched by these.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from lightning.pytorch.strategies.launchers import subprocess_script

from dante.errors import DanteError
from dante.fit.safety import out_of_memory
from dante.run import board
from dante.system import rank

POLL_S = 0.5
# Time for the collective to fail by itself, and for a process to end in its own way after that.
GRACE_S = 15.0
_SIGNS = ("Connection closed", "Connection reset", "Broken pipe", "timed out", "Timed out", "NCCL", "recvValue failed")
FIX = "the same command continues after the last checkpoint"
_children: list[subprocess.Popen[bytes]] = []  # the ranks that this process has started


def watch() -> None:
    """Watch the processes that this one was started with; without a message, Lightning's observer kills rank 0."""
    subprocess_script._launch_process_observer = _watch_children  # type: ignore[assignment]
    if board.started_by_rank_0():
        parent = os.getppid()
        _start(lambda: f"rank 0 (process {parent}) has ended" if os.getppid() != parent else None)


def lost(error: BaseException) -> DanteError | None:
    """The failed collective behind an exception as one paragraph, or None for another kind of error."""
    if not isinstance(error, RuntimeError) or out_of_memory.is_out_of_memory(error):
        return None
    if not any(sign in str(error) for sign in _SIGNS):
        return None
    return DanteError(
        f"rank {rank.of_this_process()} lost another process of this run ({str(error).strip().splitlines()[0][:200]})",
        where="trainer.devices, trainer.num_nodes",
        fix=f"see what the other one says; {FIX}",
    )


def _watch_children(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    def ended() -> str | None:
        codes = [process.poll() for process in processes]
        failed = next((number for number, code in enumerate(codes) if code), None)
        if failed is None:
            return None
        number, code = failed + 1, codes[failed]
        killed = f", killed: {out_of_memory.KILLED}" if code == -signal.SIGKILL else ""
        return f"rank {number} (process {processes[failed].pid}) has ended with code {code}{killed}"

    _children.extend(processes)
    _start(ended)


def _start(ended: Callable[[], str | None]) -> None:
    threading.Thread(target=_watch, args=(ended,), name="peers", daemon=True).start()


def _watch(ended: Callable[[], str | None]) -> None:
    while (message := ended()) is None:
        time.sleep(POLL_S)
    time.sleep(GRACE_S)
    end(f"{message}, and rank {rank.of_this_process()} hangs without it. Fix: {FIX}.")


def end(message: str | None) -> NoReturn:
    """End this process and the ranks that it started, from any thread, with at most one line on standard error."""
    if message is not None:
        print(f"error {message}", file=sys.stderr, flush=True)
    for process in _children:
        process.kill()  # a process that was stopped, too
    os._exit(2)
