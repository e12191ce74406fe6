"""Starts a program in a jail, and ends all of it."""

import contextlib
import functools
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from dante.errors import DanteError
from dante.sandbox import jail
from dante.sandbox.limits import Limits

# User ids that nobody has: one for each program, so that none can signal another and the limit on processes is its own.
_FIRST_UID, _UIDS = 1_500_000_000, 100_000_000
_STDERR_BYTES = 4000
JAIL = Path(jail.__file__).read_text(encoding="utf-8")


class Jailed:
    """A Python program in a jail, from its start to the end of its `with` block, where everything of it is killed.

    Args:
        source: the program.
        arguments: what it finds in `sys.argv`.
        fds: file descriptors of this process that it keeps.
        limits: see `Limits`.
    """

    def __init__(self, source: str, arguments: Sequence[str], fds: Sequence[int], limits: Limits) -> None:
        python = interpreter()
        spec = {
            "python": python,
            "prefix": os.path.realpath(sys.base_prefix),
            "packages": packages(),
            "arguments": ["-I", "-S", "-X", "utf8", "-c", source, *arguments],
            "uid": _FIRST_UID + secrets.randbelow(_UIDS) if os.geteuid() == 0 else None,
            "limits": asdict(limits),
            "fds": list(fds),
        }
        self.process = subprocess.Popen(
            [python, "-I", "-S", "-c", JAIL, json.dumps(spec)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=list(fds),
            env={},
            cwd="/",
            start_new_session=True,
        )
        self._stderr = bytearray()
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    def _drain(self) -> None:
        assert self.process.stderr is not None
        while piece := self.process.stderr.read1(65536):  # type: ignore[attr-defined]
            self._stderr += piece
            del self._stderr[:-_STDERR_BYTES]

    def wait(self, timeout_s: float) -> int | None:
        """Exit code, or None where it still runs after so long."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def said(self) -> str:
        """The end of what it wrote to standard error."""
        self._reader.join(1.0)
        return bytes(self._stderr).decode("utf-8", "replace")

    def __enter__(self) -> "Jailed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # the process namespace ends with it
        self.process.kill()
        self.process.wait()


@functools.cache
def packages() -> list[str]:
    """What is lent besides the interpreter: numpy, which programs and the tests of some sets import."""
    found = importlib.util.find_spec("numpy")
    if found is None or found.origin is None:
        return []
    package = os.path.dirname(os.path.realpath(found.origin))
    return [place for place in (package, f"{package}.libs") if os.path.isdir(place)]


def interpreter() -> str:
    """The Python that this one's environment was made from: it needs nothing of that environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


PROBE = """
import os, socket
problems = []
try:
    socket.create_connection(("127.0.0.1", 9), 1)
except OSError as error:
    if error.errno not in (101, 99):  # unreachable, not available: no interface is up
        problems.append(f"a network: {error}")
else:
    problems.append("a network")
for place in ("/", "/etc", "/var", "/usr", "/home", "/root", "/mnt", "/opt", "/run", "/python", "/dev"):
    try:
        open(os.path.join(place, "dante-probe"), "w")
    except OSError:
        continue
    problems.append(f"{place} can be written")
seen = set(os.listdir("/")) - set("usr lib lib32 lib64 libx32 bin sbin python packages dev etc proc tmp old".split())
if seen or os.listdir("/old") or os.listdir("/etc") not in ([], ["ld.so.cache"]):
    problems.append(f"more of the machine's files than it needs: {sorted(seen)}")
open("scratch", "w").write("x")
if os.environ and set(os.environ) != {"LC_CTYPE"}:
    problems.append(f"an environment: {sorted(os.environ)}")
if [name for name in os.listdir("/proc") if name.isdigit() and int(name) > 2]:
    problems.append("other processes can be seen")
if os.geteuid() == 0:
    problems.append("it is root")
print(*problems, sep="; ", file=__import__("sys").stderr)
os._exit(1 if problems else 0)
"""


@functools.cache
def check_sandbox() -> None:
    """Tries it out on this machine, once.

    Raises:
        DanteError: something that a sandbox has to guarantee cannot be guaranteed here; says what.
    """
    if not sys.platform.startswith("linux"):
        raise refused(f"this is {sys.platform}, and namespaces are Linux's")
    with Jailed(PROBE, [], [], Limits()) as probe:
        code, said = probe.wait(20.0), probe.said().strip()
    if code != 0:
        raise refused(said.splitlines()[-1] if said else f"a program that looks around ended with {code}")


def refused(what: str) -> DanteError:
    """Programs cannot be shut in here."""
    return DanteError(
        f"programs cannot be shut in on this machine: {what}",
        where="eval.allow_code_execution",
        allowed="Linux 5.12 or later, as root or with user namespaces (sysctl kernel.unprivileged_userns_clone=1)",
        fix="leave these tasks out: eval.allow_code_execution=false, or run the evaluation in a container that may "
        "unshare namespaces",
    )
