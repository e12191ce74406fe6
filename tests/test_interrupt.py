"""Signals in the middle of one long instruction: answered at once, and a second one ends the process."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from dante.system.interrupt import EXIT_CODES
from tests.killing import ROOT

# One call of C that lets other threads run and looks at no signal, as a backward pass.
LONG = "hashlib.pbkdf2_hmac('sha256', b'', b'', {rounds})"
CODE = """
import hashlib
from dante.system import interrupt
interrupt.SAME_REQUEST_S, interrupt.GRACE_S = 0.5, 0.3
with interrupt.handled():
    with interrupt.deferred(lambda: "stopping after step 3"):
        print("begun", flush=True)
        {long}
        print("the step has ended", flush=True)
    interrupt.check("after step 3")
"""


class Stepping:
    """A process in the middle of a step."""

    def __init__(self, tmp_path: Path, rounds: int) -> None:
        self.log = tmp_path / "log"
        code = CODE.format(long=LONG.format(rounds=rounds))
        with self.log.open("w") as log:
            self.process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=log, stderr=log)
        self.wait_for("begun")

    def wait_for(self, text: str, seconds: float = 20.0) -> float:
        """Seconds until it has printed a text."""
        start = time.monotonic()
        while text not in self.log.read_text():
            assert time.monotonic() - start < seconds, self.log.read_text()
            time.sleep(0.02)
        return time.monotonic() - start


def test_a_signal_is_answered_at_once_and_a_second_one_ends_a_step_that_does_not(tmp_path: Path) -> None:
    step = Stepping(tmp_path, rounds=10**9)  # a quarter of an hour
    step.process.send_signal(signal.SIGTERM)
    assert step.wait_for("SIGTERM: stopping after step 3") < 3
    step.process.send_signal(signal.SIGTERM)  # the same request, forwarded by a launcher
    time.sleep(0.7)
    assert step.process.poll() is None
    step.process.send_signal(signal.SIGTERM)
    assert step.process.wait(5) == EXIT_CODES[signal.SIGTERM]
    assert "stopped by SIGTERM in the middle of it; the same command continues" in step.log.read_text()
    assert step.log.read_text().count("stopping after step 3") == 1


def test_a_warning_and_then_the_end_is_no_second_request(tmp_path: Path) -> None:
    """SLURM warns (SIGUSR1) minutes before it sends SIGTERM: the step may still end in between."""
    step = Stepping(tmp_path, rounds=8_000_000)
    step.process.send_signal(signal.SIGUSR1)
    step.wait_for("SIGUSR1: stopping after step 3")
    time.sleep(0.7)
    step.process.send_signal(signal.SIGTERM)
    assert step.process.wait(60) == 1  # nobody catches Interrupted here
    assert "the step has ended" in step.log.read_text()
    assert "stopped by SIGUSR1 after step 3" in step.log.read_text()


def test_a_step_that_ends_by_itself_is_not_ended_twice(tmp_path: Path) -> None:
    step = Stepping(tmp_path, rounds=8_000_000)
    step.process.send_signal(signal.SIGINT)
    assert step.process.wait(60) == 1
    assert "in the middle of it" not in step.log.read_text()
    assert "stopped by SIGINT after step 3" in step.log.read_text()
