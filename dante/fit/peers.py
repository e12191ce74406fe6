"""What happens to a distributed fit when one of its processes dies.

Usually the next collective fails on the others within a second (gloo) and `lost` says why. A collective that does not
notice (NCCL, until its own timeout) is what the watches are for: rank 0 watches the processes that it started, and
these watch rank 0. Processes of torchrun and srun are watched by these.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from lightning.pytorch.strategies.launchers import subprocess_script

from dante import distributed, ranks
from dante.errors import DanteError

POLL_S = 0.5
# Time for the collective to fail by itself, and for a process to end in its own way after that.
GRACE_S = 15.0
_SIGNS = ("Connection closed", "Connection reset", "Broken pipe", "timed out", "Timed out", "NCCL", "recvValue failed")
FIX = "the same command continues after the last checkpoint"


def watch() -> None:
    """Watch the processes that this one was started with; without a message, Lightning's observer kills rank 0."""
    subprocess_script._launch_process_observer = _watch_children  # type: ignore[assignment]
    if ranks.started_by_rank_0():
        parent = os.getppid()
        _start(lambda: f"rank 0 (process {parent}) has ended" if os.getppid() != parent else None, ())


def lost(error: BaseException) -> DanteError | None:
    """The failed collective behind an exception as one paragraph, or None for another kind of error."""
    if not isinstance(error, RuntimeError) or not any(sign in str(error) for sign in _SIGNS):
        return None
    return DanteError(
        f"rank {distributed.rank()} lost another process of this run ({str(error).strip().splitlines()[0][:200]})",
        where="trainer.devices, trainer.num_nodes",
        fix=f"see what the other one says; {FIX}",
    )


def _watch_children(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    def ended() -> str | None:
        codes = [process.poll() for process in processes]
        failed = next((number for number, code in enumerate(codes) if code), None)
        if failed is None:
            return None
        return f"rank {failed + 1} (process {processes[failed].pid}) has ended with code {codes[failed]}"

    _start(ended, processes)


def _start(ended: Callable[[], str | None], processes: Sequence[subprocess.Popen[bytes]]) -> None:
    threading.Thread(target=_watch, args=(ended, processes), name="peers", daemon=True).start()


def _watch(ended: Callable[[], str | None], processes: Sequence[subprocess.Popen[bytes]]) -> None:
    while (message := ended()) is None:
        time.sleep(POLL_S)
    time.sleep(GRACE_S)
    print(f"error {message}, and rank {distributed.rank()} hangs without it. Fix: {FIX}.", file=sys.stderr, flush=True)
    for process in processes:
        process.kill()
    os._exit(2)
