"""Processes that take turns: while one works, all others wait for their line on a pipe.

The parent (`Player`) starts each system as a process of its own, so that each has its own memory, and lets them work
one at a time. The child (`Table`) blocks in `wait` and says what its turn measured. Lines are JSON; whatever else a
child prints goes to a log.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LINES_SHOWN = 30


class Table:
    """The child's end. Made before anything prints: it takes stdout for itself."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def say(self, **facts: Any) -> None:
        """Hand facts to the parent; the turn ends with it."""
        self._out.write(json.dumps(facts) + "\n")
        self._out.flush()

    def wait(self) -> str:
        """Block until it is this process's turn; what it is asked for. A parent that is gone ends the process."""
        line = sys.stdin.readline()
        if not line:
            raise SystemExit(0)
        return line.strip()


class Player:
    """The parent's end.

    Args:
        command: the child.
        environment: on top of this process's own.
        log: file for what the child prints.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            env={**os.environ, **environment},
        )

    def hear(self) -> dict[str, Any]:
        """What the child says at the end of its turn.

        Raises:
            RuntimeError: it died; the last lines of its log are in the message.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-LINES_SHOWN:])
            raise RuntimeError(f"a benchmark's process ended with exit code {self.process.wait()}:\n{last}")
        facts: dict[str, Any] = json.loads(line)
        return facts

    def turn(self, request: str = "go") -> dict[str, Any]:
        """Let the child work until it has something to say."""
        assert self.process.stdin is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.hear()

    def close(self) -> None:
        """End the child, whatever it does."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
