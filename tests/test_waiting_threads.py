"""OpenMP's threads soon sleep while they wait: libgomp itself is asked, when torch loads it, what is in force."""

import os
import subprocess
import sys

import pytest

from tests.killing import ROOT

LOADS_TORCH = [sys.executable, "-c", "import dante.losses.ce"]
DRY_RUN = [sys.executable, "train.py", "+experiment=sft", "scale=smoke", "dry_run=true", "logger=none"]


def spins(command: list[str], **environment: str) -> int:
    """How often a waiting thread looks before it sleeps, as OpenMP's runtime prints it (its default: 300,000)."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        command, cwd=ROOT, env=inherited | {"OMP_DISPLAY_ENV": "VERBOSE"} | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    if not said:
        pytest.skip("this torch brings another OpenMP than libgomp")
    return int(said[0].split("'")[1])


def test_they_soon_sleep_in_whatever_loads_torch_by_the_lab() -> None:
    assert spins(LOADS_TORCH) == 10_000
    assert spins(DRY_RUN) == 10_000


def test_they_wait_as_the_user_says() -> None:
    assert spins(LOADS_TORCH, OMP_WAIT_POLICY="passive") == 0
    assert spins(LOADS_TORCH, OMP_WAIT_POLICY="active") > 300_000
    assert spins(LOADS_TORCH, GOMP_SPINCOUNT="1000") == 1000


def test_it_is_in_force_in_the_tests_too() -> None:
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
