"""A program and a task's tests → a verdict."""

import json
import os
import re
import select
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from dante.sandbox import judge, solution, wire
from dante.sandbox.limits import MIB, Limits
from dante.sandbox.process import Jailed, check_sandbox

Outcome = Literal["passed", "failed", "timeout", "unfit"]
# Without what they import of this lab: there the sources stand one behind the other.
_SOURCES = {
    one.__name__: re.sub(r"(?m)^from dante\..*$", "", Path(str(one.__file__)).read_text(encoding="utf-8"))
    for one in (judge, solution, wire)
}
# What a jailed interpreter is given: the sources themselves, because their files may lie in somebody's home.
_SOLUTION = f"""
import json, sys
{_SOURCES[wire.__name__]}
{_SOURCES[solution.__name__]}
spec = json.loads(sys.argv[1])
source = open(spec["source"]).read()
serve(source, Wire(spec["read"], spec["write"], spec["most"]))
"""
_JUDGE = f"""
import json, os, sys
{_SOURCES[wire.__name__]}
{_SOURCES[judge.__name__]}
spec = json.loads(sys.argv[1])
task = json.loads(open(spec["source"]).read())
said = verdict(task, Wire(spec["read"], spec["write"], spec["most"]))
os.write(spec["verdict"], json.dumps(said).encode())
os._exit(0)
"""
_VERDICT_BYTES = 65536


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
            if not said:
                end = (accused.said() + bench_process.said()).strip()[-300:]
                return Verdict("failed", f"the tests ended without a verdict: {end}", seconds)
    finally:
        for fd in fds:
            os.close(fd)
    outcome, why = json.loads(said)
    return Verdict(outcome, str(why), seconds)


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
