"""kill -9 while a teacher answers, several workers on one store, and copies of a teacher on Ray: the same cache."""

import json
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

from dante.cache import read_records, verify
from dante.cache.records.reader import read_lines
from dante.teachers.smoke import SmokeTeacher
from tests.generating import BATCH_REQUESTS, generate
from tests.warm import Started

COUNT = 36
BATCHES = 2 * COUNT // BATCH_REQUESTS
SEED = int(os.environ.get("DANTE_KILL_SEED", "0"))
DEADLINE_S = 300.0


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    SmokeTeacher(seed=0).make(folder)
    return folder


@pytest.fixture(scope="module")
def whole(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shards of a cache that was never disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    generate(teacher, folder / "out", folder / "answers", COUNT, "transformers")
    return shards(folder / "out")


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("records-*"))}


def start(teacher: Path, out: Path, store: Path, name: str, *python: str, count: int = COUNT) -> Started:
    arguments = [str(teacher), str(out), str(store), str(count), name, *python]
    return Started("tests.generating", arguments, out.parent / f"{out.name}.log", os.environ | {"OMP_NUM_THREADS": "1"})


def answered(store: Path) -> int:
    return len(list(store.glob("answers-*.jsonl.zst")))


def kill_at_random(process: Started, store: Path, draw: random.Random, batches: int) -> bool:
    """SIGKILL to worker and teacher, some moment after one more batch than before; False when it was too late."""
    before, deadline = answered(store), time.monotonic() + DEADLINE_S
    wanted = min(before + draw.randint(0, 1), batches - 1)
    while process.poll() is None and not (store.is_dir() and answered(store) >= wanted):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(draw.uniform(0, 0.5 if before or wanted else 1.0))
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return not ended


def survive(teacher: Path, folder: Path, kills: int, name: str, *python: str) -> tuple[int, int]:
    """Kills a generation again and again, then lets it finish; returns (kills, rounds)."""
    draw, done, rounds = random.Random(SEED), 0, 1
    while done < kills:
        out, store = folder / f"out{rounds}", folder / f"answers{rounds}"
        if not kill_at_random(start(teacher, out, store, name, *python), store, draw, BATCHES):
            rounds += 1  # it had ended: a new one
            continue
        done += 1
        print(f"kill {done}: {answered(store)} of {BATCHES} batches were finished")
    process = start(teacher, folder / f"out{rounds}", folder / f"answers{rounds}", name, *python)
    assert process.wait(DEADLINE_S) == 0, (folder / f"out{rounds}.log").read_text()
    return done, rounds


def test_a_generator_that_is_killed_three_times_ends_like_an_undisturbed_one(
    teacher: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    _, last = survive(teacher, tmp_path, 3, "transformers")
    assert shards(tmp_path / f"out{last}") == whole
    verify(tmp_path / f"out{last}")


@pytest.mark.slow
def test_twenty_kills(teacher: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    kills, rounds = survive(teacher, tmp_path, 20, "transformers")
    assert kills == 20
    finished = [n for n in range(1, rounds + 1) if (tmp_path / f"out{n}" / "manifest.json").is_file()]
    for number in finished:
        assert shards(tmp_path / f"out{number}") == whole
    assert finished[-1] == rounds


def test_two_workers_fill_one_store_and_no_answer_is_made_twice(
    teacher: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    store = tmp_path / "answers"
    workers = [start(teacher, tmp_path / name, store, "transformers") for name in ("one", "two")]
    for worker in workers:
        assert worker.wait(DEADLINE_S) == 0
    assert shards(tmp_path / "one") == shards(tmp_path / "two") == whole
    assert answered(store) == BATCHES
    logs = [(tmp_path / f"{name}.log").read_text() for name in ("one", "two")]
    made = [sum(int(n) for n in re.findall(r"made (\d+)", log)) for log in logs]
    assert sum(made) == 2 * COUNT
    keys = [line for path in store.glob("answers-*") for line in keys_of(path)]
    assert len(keys) == len(set(keys)) == 2 * COUNT


def keys_of(path: Path) -> list[str]:
    return [json.loads(line)["key"] for _, line in read_lines(path)]


def test_a_worker_takes_over_what_a_killed_one_had_claimed(
    teacher: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    store = tmp_path / "answers"
    first = start(teacher, tmp_path / "one", store, "transformers")
    while first.poll() is None and not list((store / ".claims").glob("*.lock.owner") if store.is_dir() else []):
        time.sleep(0.005)
    os.killpg(first.pid, signal.SIGSTOP)  # holds its claim however fast the machine is
    second = start(teacher, tmp_path / "two", store, "transformers")
    time.sleep(1.0)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert second.wait(DEADLINE_S) == 0
    assert shards(tmp_path / "two") == whole


@pytest.mark.slow
def test_copies_on_ray_write_the_same_cache(teacher: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    manifest = generate(teacher, tmp_path / "out", tmp_path / "answers", COUNT, "ray")
    assert manifest["engine"]["engine"]["name"] == "transformers"
    mine, theirs = read_records(tmp_path / "out"), records_of(whole, tmp_path)
    assert [(r.id, r.teacher_text) for r in mine] == [(r.id, r.teacher_text) for r in theirs]


def records_of(files: dict[str, bytes], folder: Path) -> list:
    (folder / "theirs").mkdir()
    for name, content in files.items():
        (folder / "theirs" / name).write_bytes(content)
    return read_records(folder / "theirs")


@pytest.mark.vllm
def test_two_kills_of_real_vllm(teacher: Path, tmp_path: Path) -> None:
    python = os.environ.get("DANTE_VLLM_PYTHON")
    if not python:
        pytest.skip("DANTE_VLLM_PYTHON does not name an interpreter with vLLM")
    generate(teacher, tmp_path / "whole", tmp_path / "whole-answers", COUNT, "vllm", python)
    _, last = survive(teacher, tmp_path, 2, "vllm", python)
    assert shards(tmp_path / f"out{last}") == shards(tmp_path / "whole")
