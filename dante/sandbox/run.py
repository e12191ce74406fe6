"""A program and a task's tests → a verdict."""

import hashlib
import json
import os
import re
import select
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from dante.sandbox import judge, solution, wire
from dante.sandbox.jail import FAILED, PACKAGES
from dante.sandbox.limits import MIB, Limits
from dante.sandbox.process import JAIL, Jailed, check_sandbox, refused

Outcome = Literal["passed", "failed", "timeout", "unfit"]
# Without what they import of this lab: there the sources stand one behind the other.
_SOURCES = {
    one.__name__: re.sub(r"(?m)^from dante\..*$", "", Path(str(one.__file__)).read_text(encoding="utf-8"))
    for one in (judge, solution, wire)
}
# One thread of its own is all that a library of a jail may start: it sees the machine's cores, and may not use them.
_LENT = f"""
sys.path.append({PACKAGES!r})
os.putenv("OPENBLAS_NUM_THREADS", "1")  # for libraries; the environment that Python shows stays empty
"""
# What a jailed interpreter is given: the sources themselves, because their files may lie in somebody's home.
_SOLUTION = f"""
import json, os, sys
{_LENT}
{_SOURCES[wire.__name__]}
{_SOURCES[solution.__name__]}
spec = json.loads(sys.argv[1])
source = open(spec["source"]).read()
serve(source, Wire(spec["read"], spec["write"], spec["most"]))
"""
_JUDGE = f"""
import json, os, sys
{_LENT}
{_SOURCES[wire.__name__]}
{_SOURCES[judge.__name__]}
spec = json.loads(sys.argv[1])
task = json.loads(open(spec["source"]).read())
said = verdict(task, Wire(spec["read"], spec["write"], spec["most"]))
os.write(spec["verdict"], json.dumps(said).encode())
os._exit(0)
"""
_VERDICT_BYTES = 65536
_END_S = 1.0
# What a verdict depends on besides program, tests and limits.
JUDGED_BY = hashlib.sha256("".join([*_SOURCES.values(), JAIL, sys.version]).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Task:
    """What a program is judged by.

    Attributes:
        setup: code that the tests may use, such as helpers that the question gave.
        tests: code.
        entry: the function that `check(…)` in the tests is called with; None: the tests are assertions about names.
        defines: names that the question asks for, where they are also built-in ones.
    """

    setup: str
    tests: str
    entry: str | None
    defines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What came of it.

    Attributes:
        outcome: `passed`; `failed`; `timeout`; `unfit`, where the tests hand over what cannot be handed over.
        why: in a line.
        seconds: it took.
    """

    outcome: Outcome
    why: str
    seconds: float

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"


def run(program: str, task: Task, limits: Limits) -> Verdict:
    """Runs a program that nobody has read, and the tests, in a jail each; everything of both is killed at the end.

    Raises:
        DanteError: this machine cannot shut programs in.
    """
    check_sandbox()
    began_s = time.monotonic()
    fds: list[int] = []

    def pipe() -> tuple[int, int]:
        ends = os.pipe()
        fds.extend(ends)
        return ends

    def given(text: str) -> int:
        """A file without a name that holds a text: programs may be longer than an argument."""
        fd = os.memfd_create("given")
        fds.append(fd)
        _write_all(fd, text)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    try:
        (ask_r, ask_w), (say_r, say_w), (out_r, out_w) = pipe(), pipe(), pipe()
        source, tests = given(program), given(json.dumps(asdict(task)))
        most = limits.message_mib * MIB
        ear = json.dumps({"read": ask_r, "write": say_w, "most": most, "source": source})
        bench = json.dumps({"read": say_r, "write": ask_w, "most": most, "source": tests, "verdict": out_w})
        with (
            Jailed(_SOLUTION, [ear], [ask_r, say_w, source], limits) as accused,
            Jailed(_JUDGE, [bench], [say_r, ask_w, tests, out_w], limits) as bench_process,
        ):
            for fd in (ask_r, ask_w, say_r, say_w, out_w):
                os.close(fd)
                fds.remove(fd)
            said = _read(out_r, began_s + limits.wall_s)
            seconds = time.monotonic() - began_s
            if said is None:
                return Verdict("timeout", f"no verdict within {limits.wall_s:g} s", seconds)
            for one in (accused, bench_process):
                if not said and one.wait(_END_S) == FAILED:
                    raise refused(one.said().strip() or "a jail could not be set up")
            if not said:
                end = (accused.said() + bench_process.said()).strip()[-300:]
                return Verdict("failed", f"the tests ended without a verdict: {_plain(end)}", seconds)
    finally:
        for fd in fds:
            os.close(fd)
    return _verdict(said, seconds)


def _verdict(said: bytes, seconds: float) -> Verdict:
    """What the judge wrote; anything else than that is no success."""
    try:
        outcome, why = json.loads(said)
    except ValueError:
        outcome, why = "failed", "the judge wrote no verdict"
    if outcome not in ("passed", "failed", "unfit"):
        outcome, why = "failed", f"the judge wrote {outcome!r}"
    return Verdict(outcome, _plain(str(why)), seconds)


def _plain(text: str) -> str:
    """A text that any file holds: a program may raise with half a character."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _write_all(fd: int, text: str) -> None:
    data = memoryview(text.encode("utf-8", "surrogatepass"))
    while data:
        data = data[os.write(fd, data) :]


def _read(fd: int, until_s: float) -> bytes | None:
    """What the judge writes, until it ends; None where it does not in time."""
    data = b""
    while (left_s := until_s - time.monotonic()) > 0:
        if not select.select([fd], [], [], left_s)[0]:
            return None
        piece = os.read(fd, _VERDICT_BYTES)
        if not piece or len(data) > _VERDICT_BYTES:
            return data
        data += piece
    return None
