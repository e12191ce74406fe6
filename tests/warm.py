"""Starts of `train.py` and of the tests' own programs that find everything imported already.

Eight of the ten seconds of a start are imports. Here they are made once, in a server that runs nothing else (the
standard library's), and each start is a fork of it: a process and a group of its own, with its own arguments,
environment and output, which is signalled, killed and waited for like any other. What starting itself does is tested
elsewhere (`test_cli.py`, `test_readme.py`, `test_waiting_threads.py`).
"""

import atexit
import importlib
import multiprocessing
import multiprocessing.process
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.warm_imports"])


class Started:
    """What the tests use of `subprocess.Popen`, for a process that was forked from the server."""

    def __init__(
        self, module: str, arguments: list[str], log: Path, environment: Mapping[str, str], folder: Path = ROOT
    ) -> None:
        # A daemon: one that a failed test left behind is ended with the tests and not waited for.
        chosen = (module, arguments, str(log), dict(environment), str(folder))
        self._process = _SERVER.Process(target=_begin, args=chosen, daemon=True)
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([path] if path else [])])  # the server's
        try:
            self._process.start()
        finally:
            os.environ.pop("PYTHONPATH") if path is None else os.environ.update(PYTHONPATH=path)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return self._process.exitcode


def _begin(module: str, arguments: list[str], log: str, environment: dict[str, str], folder: str) -> None:
    """In the fork: become what a start from a shell would be, and run a module's `main`."""
    from tests import warm_imports  # in the server alone, which has made them

    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # the fork was given its server's
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    os.close(file)
    os.chdir(folder)
    for name in warm_imports.INHERITED - environment.keys():  # what the imports have set stays, as in a start
        os.environ.pop(name, None)
    os.environ.update(environment)
    sys.argv = [str(ROOT / f"{module.replace('.', '/')}.py"), *arguments]
    multiprocessing.process.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # may have workers
    try:
        code = importlib.import_module(module).main() or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    # An interpreter's end, which a fork does not come to by itself: joblib's workers are sent home in it.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
