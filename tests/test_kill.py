"""kill -9 at any moment: the same command finishes, with the losses, weights and results of an undisturbed run.

`DANTE_KILL="+experiment=sft scale=pocket"` chooses another run for the test with one kill in every step; for example

    DANTE_KILL="+experiment=dante_mosaic scale=pocket" python -m pytest -m slow tests/test_kill.py -k every_step -s
"""

import json
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dante.run import pipeline
from dante.system.files import STEP_FILE, sha256
from dante.system.interrupt import EXIT_CODES
from tests.killing import TIMING, Run, alive_in_group, steps_done
from tests.test_config import composed

SMOKE = ("+experiment=dante_mosaic", "scale=smoke", "fit.steps=60", "fit.checkpoint_every_steps=7")
CHOSEN = os.environ.get("DANTE_KILL", " ".join(SMOKE)).split()
SEED = int(os.environ.get("DANTE_KILL_SEED", "0"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("undisturbed") / "runs" / "run", SMOKE)
    run.finish()
    return run


def test_a_run_that_is_killed_four_times_ends_like_an_undisturbed_one(undisturbed: Run, tmp_path: Path) -> None:
    run, draw = Run(tmp_path / "runs" / "run", SMOKE), random.Random(SEED)
    kills = 0
    for label in ("teacher", "cache", "fit", "report"):
        longest = undisturbed.wall_s(label) / 2  # half: the other run may have been made while the machine was busier
        kills += run.kill_when(lambda label=label: run.begun(label), draw.uniform(0, longest))  # type: ignore[misc]
    assert kills >= 3  # a step may have been faster than the kill
    run.finish()
    assert run.result() == undisturbed.result()
    assert run.leftovers() == []
    assert "is complete" in run.finish()


def test_a_run_that_is_asked_to_stop_stops_between_two_steps_and_goes_on(undisturbed: Run, tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "run", SMOKE)

    def ask(signum: int, moment: Callable[[], bool]) -> str:
        process = run.start("trainer.workers=1")
        assert run.wait_for(moment, process), run.log.read_text()
        os.killpg(process.pid, signum)  # as SLURM and a terminal do: the data loader's worker is sent it, too
        said = run.end_of(process, code=None)
        assert process.returncode == EXIT_CODES[signal.Signals(signum)]
        assert "Traceback" not in said
        assert said.endswith("; the same command continues\n")
        assert run.leftovers_of_locks() == []
        return said.strip().splitlines()[-1]

    for signum in (signal.SIGTERM, signal.SIGINT):
        before = steps_done(run)
        said = ask(signum, lambda before=before: steps_done(run) > before)  # type: ignore[misc]
        (checkpoint,) = run.store.glob("fit-*.partial/checkpoints/*")
        assert checkpoint.name == f"step-{steps_done(run):06d}.ckpt"
        assert said.startswith(f"stopped by {signal.Signals(signum).name} after step {steps_done(run)};")
        assert steps_done(run) < 60
    said = ask(signal.SIGTERM, lambda: run.begun("report"))
    assert said.startswith("stopped by SIGTERM in step 'report'")
    run.finish()
    assert run.result() == undisturbed.result()


TWO_FITS = (
    "scale=smoke", "fit.steps=60", "fit.checkpoint_every_steps=7", "eval.retention=false", "eval.choices=0",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "first", "second"),
    [
        ("dante_then_sft", "fit-first", "fit-second"),
        ("laguna_dense", "fit-match", "fit-chat_kd"),
    ],
)
def test_a_recipe_of_two_fits_that_is_killed_inside_and_between_them_ends_like_an_undisturbed_one(
    experiment: str, first: str, second: str, tmp_path: Path
) -> None:
    overrides = (f"+experiment={experiment}", *TWO_FITS)
    whole, run = Run(tmp_path / "whole" / "run", overrides), Run(tmp_path / "runs" / "run", overrides)
    whole.finish()

    def between() -> bool:
        return (run.directory / first).exists() and not run.begun(second)

    moments = (checkpoint_of(run, first), between, checkpoint_of(run, second))
    assert sum(run.kill_when(moment, 0.0) for moment in moments) >= 2  # between two fits there are milliseconds
    run.finish()
    assert run.result() == whole.result()
    assert run.result()["metrics"].keys() == {first, second}
    assert run.leftovers() == []


def checkpoint_of(run: Run, label: str) -> Callable[[], bool]:
    """Whether a fit has begun and written a checkpoint."""

    def there() -> bool:
        return run.begun(label) and any((run.store / run.partial(label) / "checkpoints").glob("*.ckpt"))

    return there


@pytest.mark.slow
def test_rounds_of_chosen_answers_that_are_killed_inside_and_between_them_end_like_undisturbed_ones(
    tmp_path: Path,
) -> None:
    overrides = ("+experiment=dasd_thinking", *TWO_FITS, "mixed.batch_requests=4")
    whole, run = Run(tmp_path / "whole" / "run", overrides), Run(tmp_path / "runs" / "run", overrides)
    whole.finish()

    def begun(label: str) -> Callable[[], bool]:
        return lambda: run.begun(label)

    moments = {
        "likelihood": begun("likelihood"),
        "select-low": begun("select-low"),
        "fit-low": checkpoint_of(run, "fit-low"),
        "between the rounds": lambda: (run.directory / "fit-low").exists() and not run.begun("fit-high"),
        "fit-high": checkpoint_of(run, "fit-high"),
        "samples": begun("samples"),
        "mixed": begun("mixed"),
        "fit-mixed": begun("fit-mixed"),
    }
    killed = [name for name, moment in moments.items() if run.kill_when(moment, 0.0)]
    print("killed in", ", ".join(killed))
    assert len(killed) >= 6  # some of these moments are milliseconds
    run.finish()
    assert run.result() == whole.result()
    assert run.result()["metrics"].keys() == {"fit-low", "fit-high", "fit-mixed"}
    files = {"likelihood": "likelihood-00000.safetensors", "samples": "samples.jsonl", "sentences": "sentences.json"}
    for label, file in (files | {"mixed": "records-00000.jsonl.zst"}).items():
        assert (run.directory / label / file).read_bytes() == (whole.directory / label / file).read_bytes()
    assert run.leftovers() == []


@pytest.mark.slow
def test_twenty_random_kills(undisturbed: Run, tmp_path: Path) -> None:
    draw = random.Random(SEED)
    kills = round_ = 0
    while kills < 20:
        round_ += 1
        run, completed = Run(tmp_path / f"round{round_}" / "run", SMOKE), False
        while not completed and kills < 20:
            # Anywhere from the first file on; a finished step moves the next kill on.
            begun = run.directory / ".lock.owner"
            killed = run.kill_when(begun.exists, draw.uniform(0, 8))
            kills, completed = kills + killed, not killed
            print(f"round {round_}, kill {kills}: {'killed' if killed else 'ended'}")
        run.finish()
        assert run.result() == undisturbed.result()
        assert run.leftovers() == []


DROPOUT = ("fit.attention_dropout=0.2",)
BACKGROUND = ("trainer.background_checkpoints=true",)
SHARDED = ("trainer.devices=2", "trainer.strategy=fsdp2", "trainer.checkpoints=sharded")


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [BACKGROUND, DROPOUT, (*DROPOUT, *SHARDED)], ids=["background", "dropout", "dropout-sharded"]
)
def test_ten_kills_in_the_fit(more: tuple[str, ...], tmp_path: Path) -> None:
    overrides = (*SMOKE, "fit.checkpoint_every_steps=4", "trainer.workers=0", "only=[teacher,cache,init,fit]", *more)
    whole, run = Run(tmp_path / "whole" / "run", overrides), Run(tmp_path / "runs" / "run", overrides)
    draw = random.Random(SEED)
    whole.finish()
    for number, last in enumerate(sorted(draw.sample(range(1, 60), 10))):
        process = run.start()
        assert run.wait_for(lambda last=last: steps_done(run) >= last, process)  # type: ignore[misc]
        assert run.kill(process)
        print(f"kill {number + 1}: after step {steps_done(run)}")
    run.finish()

    def result(of: Run) -> tuple[str, list[dict[str, Any]]]:
        rows = [json.loads(line) for line in (of.directory / "fit" / "metrics.jsonl").read_text().splitlines()]
        stable = [{k: v for k, v in row.items() if k not in TIMING} for row in rows]
        return sha256(of.directory / "fit" / "student.safetensors"), stable

    assert result(run) == result(whole)


@pytest.mark.slow
def test_one_kill_in_the_middle_of_every_step(tmp_path: Path) -> None:
    reference, run = Run(tmp_path / "whole" / "run", CHOSEN), Run(tmp_path / "killed" / "run", CHOSEN)
    reference.finish()
    for label in reference.labels:
        wall_s = reference.wall_s(label)
        killed = run.kill_when(lambda label=label: run.begun(label), wall_s / 2)  # type: ignore[misc]
        print(f"{label}: {'killed' if killed else 'ended before it could be killed'} at {wall_s / 2:.1f} s")
    run.finish()
    assert run.result() == reference.result()
    assert run.leftovers() == []


# The same, deterministically: the process kills itself before the n-th change that it makes to the file system.


class Fork:
    """Runs a function in a forked process that dies before its n-th change below a folder; None: never."""

    CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.truncate", "os.utime")

    def __init__(self, folder: Path, die_before: int | None) -> None:
        self.folder, self.die_before, self.seen = str(folder), die_before, 0

    def __call__(self, cfg: dict[str, Any]) -> int:
        """Changes that were made, or -1 when it was killed."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reader)
                sys.addaudithook(self._watch)
                pipeline.run(cfg)
                os.write(writer, str(self.seen).encode())
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL), f"status {status}"
        return int(said) if status == 0 else -1

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not (writes or event in self.CHANGES) or not str(arguments[0]).startswith(self.folder):
            return
        if self.seen == self.die_before:
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen += 1


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the teacher, and a process in which everything that the forks need is imported."""
    folder = tmp_path_factory.mktemp("teacher") / "runs"
    for label in ("teacher", "cache", "init"):
        pipeline.run(_only(label, folder))
    for label in ("cache", "init"):
        (folder / "run" / label).unlink()
        for path in (folder / ".steps").glob(f"{label}-*"):
            shutil.rmtree(path)
        for path in (folder / ".steps").glob(f".{label}-*"):
            path.unlink()
    return folder


def _only(label: str, runs: Path, **more: str) -> dict[str, Any]:
    overrides = [f"{key}={value}" for key, value in more.items()]
    return composed("+experiment=sft", "scale=smoke", f"only={label}", f"run.dir={runs}/run", *overrides)


def _files(runs: Path, label: str) -> dict[str, bytes]:
    (step,) = [p for p in (runs / ".steps").glob(f"{label}-*") if (p / STEP_FILE).is_file() and p.suffix == ""]
    return {str(p.relative_to(step)): p.read_bytes() for p in step.rglob("*") if p.name != STEP_FILE and p.is_file()}


def _moments(count: int, every: bool) -> Iterator[int]:
    yield from range(count) if every else sorted(random.Random(SEED).sample(range(count), 4))


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])
@pytest.mark.parametrize("label", ["cache", "init"])
@pytest.mark.parametrize("on_existing", ["resume", "overwrite"])
def test_any_change_to_the_file_system_may_be_the_last(
    on_existing: str, label: str, every: bool, teacher: Path, tmp_path: Path
) -> None:
    before = tmp_path / "before"
    shutil.copytree(teacher, before, symlinks=True)
    if on_existing == "overwrite":
        Fork(before, None)(_only(label, before))

    def fresh(name: str) -> Path:
        runs = tmp_path / name
        shutil.copytree(before, runs, symlinks=True)
        return runs

    whole = fresh("whole")
    changes = Fork(whole, None)(_only(label, whole, on_existing=on_existing))
    expected = _files(whole, label)
    assert changes > 20
    for number in _moments(changes, every):
        runs = fresh(f"killed{number}")
        assert Fork(runs, number)(_only(label, runs, on_existing=on_existing)) == -1
        if on_existing == "overwrite":  # the old result stays until the new one is there: nothing is made here
            steps = list((runs / ".steps").glob(f"{label}-*/{STEP_FILE}"))
            assert steps, f"no complete {label} after the kill before change {number}"
        assert Fork(runs, None)(_only(label, runs)) >= 0
        assert _files(runs, label) == expected, f"killed before change {number}"
        left = [p.name for p in (runs / ".steps").iterdir() if p.suffix in (".partial", ".old")]
        assert left == [] or on_existing == "overwrite"
        assert not list(runs.glob(f".steps/{label}-*[0-9a-f]/**/*.writing"))
        shutil.rmtree(runs)


def test_nothing_of_a_killed_run_stays_alive(tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "run", (*SMOKE[:2], "fit.steps=100000", "trainer.workers=2"))
    process = run.start()
    assert run.wait_for(lambda: any(run.store.glob("fit-*.partial/metrics.jsonl")), process)
    assert len(alive_in_group(process.pid)) >= 3  # the run and its data loader workers
    os.kill(process.pid, signal.SIGKILL)  # the run alone: its children have to notice
    process.wait()
    # A start right now must not be refused because of a lock that only the orphans still hold.
    second = run.start()
    assert run.wait_for(lambda: "continues" in run.log.read_text(), second), run.log.read_text()
    # torch's workers look for their parent every 5 s.
    assert run.wait_for(lambda: alive_in_group(process.pid) == [], second)
    run.kill(second)
