"""A run that is killed and started again: the harness of `test_kill.py` and `test_durability.py`.

Runs are processes in a group of their own (`tests/warm.py`), and killed with all their children.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dante.fit.record.accounting import MACHINE_KEYS
from dante.system.files import sha256
from tests.warm import ROOT, Started

TIMING = set(MACHINE_KEYS)
DEADLINE_S = 1800.0
Process = subprocess.Popen[str] | Started


@dataclass
class Run:
    """One run directory and the command that makes it.

    Attributes:
        directory: the run's directory; its steps lie in `.steps` beside it.
        overrides: what is added to the command; a smoke run of DANTE by default.
        output: what the last start printed, both streams.
    """

    directory: Path
    overrides: Sequence[str] = ("+experiment=dante_mosaic", "scale=smoke")
    output: str = field(default="", init=False)

    def start(self, *more: str, prefix: Sequence[str] = ()) -> Process:
        """Start it in a process group of its own; what it prints goes to a file beside the run."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        arguments = [*self.overrides, "logger=none", f"run.dir={self.directory}", *more]
        with self.log.open("w") as log:
            if not prefix:
                return Started("train", arguments, self.log, os.environ)
            return subprocess.Popen(
                [*prefix, sys.executable, "train.py", *arguments],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )

    def finish(self, *more: str, code: int = 0) -> str:
        """Run to the end, and return what it printed."""
        return self.end_of(self.start(*more), code)

    def end_of(self, process: Process, code: int | None = 0) -> str:
        """Wait for the end, check the exit code, and return what it printed."""
        found = process.wait(DEADLINE_S)
        self.output = self.log.read_text()
        assert code is None or found == code, f"exit code {found}\n{self.output}"
        return self.output

    def kill_when(self, moment: Callable[[], bool], delay_s: float, *more: str) -> bool:
        """Start, wait for the moment and then a while, and kill the whole group; False if it ended before that."""
        process = self.start(*more)
        if not self.wait_for(moment, process):
            self.end_of(process)
            return False
        time.sleep(delay_s)
        return self.kill(process)

    def wait_for(self, moment: Callable[[], bool], process: Process | None) -> bool:
        """Whether the moment came before the process ended (or, without one, at all)."""
        deadline = time.monotonic() + DEADLINE_S
        while not moment():
            if process is not None and process.poll() is not None:
                return False
            assert time.monotonic() < deadline
            time.sleep(0.002)
        return True

    def kill(self, process: Process) -> bool:
        """SIGKILL to the whole group; False if it had ended well before."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        self.output = self.log.read_text()
        assert code in (0, -signal.SIGKILL), f"exit code {code}\n{self.output}"
        return code != 0

    def begun(self, label: str) -> bool:
        """Whether a step's `.partial` is there."""
        try:
            return (self.store / self.partial(label)).exists()
        except FileNotFoundError:
            return False

    def partial(self, label: str) -> str:
        """Name of a step's directory while it is being made."""
        step = self._steps()[label]
        return f"{step['stage']}-{step['fingerprint']}.partial"

    @property
    def log(self) -> Path:
        return self.directory.parent / f"{self.directory.name}.log"

    @property
    def store(self) -> Path:
        return self.directory.parent / ".steps"

    @property
    def labels(self) -> list[str]:
        """The recipe's steps, of a run that has started."""
        return list(self._steps())

    def wall_s(self, label: str) -> float:
        """How long a finished step took."""
        return float(json.loads((self.directory / label / "step.json").read_text())["wall_s"])

    def result(self) -> dict[str, Any]:
        """What must not depend on interruptions: losses, weights, evaluation, and the files of all other steps."""
        stages = {label: step["stage"] for label, step in self._steps().items()}
        fits = [label for label, stage in stages.items() if stage == "fit"]
        stable = {}
        for label, stage in stages.items():
            for name, facts in json.loads((self.directory / label / "step.json").read_text())["files"].items():
                assert sha256(self.directory / label / name) == facts["sha256"], f"{label}/{name}"
                # These hold times.
                if stage not in ("fit", "release", "report", "footprint") and name != "speed.json":
                    stable[f"{label}/{name}"] = facts["sha256"]
        return {
            "metrics": {label: self._metrics(label) for label in fits},
            "students": {label: sha256(self.directory / label / "student.safetensors") for label in fits},
            "released": sha256(self.directory / "release" / "model.safetensors"),
            "eval": json.loads((self.directory / "eval" / "eval.json").read_text()),
            "files": stable,
        }

    def _metrics(self, label: str) -> list[dict[str, Any]]:
        """What a fit logged, without times."""
        rows = map(json.loads, (self.directory / label / "metrics.jsonl").read_text().splitlines())
        return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]

    def _steps(self) -> dict[str, Any]:
        return dict(json.loads((self.directory / "manifest.json").read_text())["steps"])

    def leftovers(self) -> list[str]:
        """Names in the store and the run that a finished run should not leave."""
        store = [p.name for p in self.store.iterdir() if p.suffix in (".partial", ".old", ".owner")]
        below = [str(p.relative_to(self.store)) for p in self.store.rglob("*.writing")]
        run = [p.name for p in self.directory.iterdir() if p.suffix in (".writing", ".link", ".owner")]
        return sorted(store + below + run)

    def leftovers_of_locks(self) -> list[str]:
        """Notes of who holds a lock, which an orderly end removes."""
        return [str(p) for p in self.directory.parent.rglob("*.owner")]


def steps_done(run: Run) -> int:
    """Steps that a fit in progress has logged."""
    files = list(run.store.glob("fit-*.partial/metrics.jsonl"))
    return files[0].read_text().count("\n") if files else 0


def alive_in_group(group: int) -> list[str]:
    """Processes of a group that are still there (zombies do not count)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        state, _, process_group = text.rpartition(")")[2].split()[:3]
        if int(process_group) == group and state != "Z":
            found.append(text)
    return found
