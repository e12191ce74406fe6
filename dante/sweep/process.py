"""One point of a sweep as a process of its own: what `python train.py` would be for it alone.

So a point that is killed for memory, or crashes in a library, takes nothing else with it; every point's memory and
time are its own; and one with several devices starts them as any run does. What it prints is kept in `log.txt` beside
its steps. The process stops in an orderly way when whoever waits for it is gone.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from rich.markup import escape

from dante import console
from dante.run.directory import WAIT_FOR_RUN
from dante.sweep.arguments import CONFIG_FLAGS
from dante.sweep.stop import STOP
from dante.system import interrupt, rank

LOG = "log.txt"
# Set for the process of a point: who waits for it.
PARENT = "DANTE_PARENT"
# Set by the sweeper for its points, through Hydra: `7/12`, and the sweeper's process where it is on this machine.
POINT, SWEEPER = "DANTE_POINT", "DANTE_SWEEPER"
_POLL_S = 0.2
# A fit writes a checkpoint before it stops.
_STOP_S = 120.0


class PointFailed(Exception):
    """A point ended without a result. One argument, so that it survives the way back from another process.

    Args:
        why: one paragraph.
    """


def run_point(train: Path, overrides: list[str], run_dir: Path, name: str) -> None:
    """Run `train.py` with a point's command line and wait.

    Args:
        train: path of train.py.
        overrides: command line of the run.
        run_dir: the run's directory; `log.txt` is appended to there.
        name: the run's name.

    Raises:
        PointFailed: it ended with another exit code than 0.
        Interrupted: this process was asked to stop; the point has been, too.
    """
    if SWEEPER in os.environ and int(os.environ[SWEEPER]) == os.getppid():  # a worker of the sweep
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a terminal sends to all reaches the sweep, which tells us
        _end_with_sweeper(os.getppid())
    _refuse_if_stopped()
    run_dir.mkdir(parents=True, exist_ok=True)
    log = run_dir / (LOG if rank.of_this_process() == 0 else f"log-rank{rank.of_this_process()}.txt")
    place = f"[{os.environ[POINT]}] " if POINT in os.environ else ""
    console.screen().print(f"{escape(place)}{escape(name)}")
    began_s, offset = time.perf_counter(), log.stat().st_size if log.exists() else 0
    with log.open("ab") as stream:
        child = subprocess.Popen(
            [sys.executable, str(train), *json.loads(os.environ.get(CONFIG_FLAGS, "[]")), *overrides],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={k: v for k, v in os.environ.items() if k not in (POINT, SWEEPER, STOP)}
            | {PARENT: str(os.getpid()), WAIT_FOR_RUN: "1"},
        )
        try:
            code = _wait(child, log)
        finally:
            _stop(child)
    took = f"{time.perf_counter() - began_s:.0f} s"
    if code == 0:
        console.screen().print(f"[green]{escape(place)}{escape(name)}[/] {took}")
        return
    why = _reason(code, log, offset)
    console.screen().print(f"[red]{escape(place)}{escape(name)} failed[/] after {took}: {escape(why)}")
    raise PointFailed(why)


def _wait(child: subprocess.Popen[bytes], log: Path) -> int:
    """The exit code; shows the last line of the log meanwhile, where somebody is watching."""
    if not console.is_terminal():
        while (code := _poll(child)) is None:
            time.sleep(_POLL_S)
        return code
    with console.screen().status("starting") as line:
        while (code := _poll(child)) is None:
            line.update(escape(_last_line(log)))
            time.sleep(_POLL_S)
    return code


def _poll(child: subprocess.Popen[bytes]) -> int | None:
    interrupt.check("in a sweep")
    _refuse_if_stopped()
    return child.poll()


def _refuse_if_stopped() -> None:
    if STOP in os.environ and Path(os.environ[STOP]).exists():
        raise PointFailed("the sweep was stopped; the same command continues")


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _reason(code: int, log: Path, offset: int) -> str:
    """What the process said of its end."""
    if code < 0:
        name = signal.Signals(-code).name
        more = ", perhaps because memory ran out" if code == -signal.SIGKILL else ""
        return f"killed by {name}{more}; see {console.short(log)}"
    with log.open("rb") as stream:
        stream.seek(offset)
        lines = stream.read().decode("utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("error ") for line in lines if line.startswith("error ")]
    if errors:
        return errors[-1]
    if code in interrupt.EXIT_CODES.values():
        return "stopped by a signal; the same command continues"
    return f"ended with exit code {code}; see {console.short(log)}"


def _last_line(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 400))
        lines = stream.read().decode("utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "starting")[: max(20, console.width() - 4)]


def stop_with_parent() -> None:
    """In a point's process: ask for an orderly stop when whoever waits for it has ended, however it did."""
    parent = int(os.environ.pop(PARENT, 0))  # the processes that this one starts have it as their parent
    if not parent:
        return

    _when_orphaned(parent, lambda: os.kill(os.getpid(), signal.SIGTERM))


@cache
def _end_with_sweeper(sweeper: int) -> None:
    """In a worker: nobody collects its results any more, and its point stops by itself when this process is gone."""
    _when_orphaned(sweeper, lambda: os._exit(1))


def _when_orphaned(parent: int, act: Callable[[], None]) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        act()

    threading.Thread(target=watch, daemon=True, name="orphaned").start()
