"""What a run survives besides being killed: damage, moves, company, a full disk, a file system that refuses."""

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import train
from dante import console
from dante.errors import DanteError, StepFailed
from dante.run import pipeline, store
from dante.system import interrupt, locks
from dante.system.files import STEP_FILE, sha256
from tests.test_config import composed


def smoke(runs: Path, *more: str, name: str = "run") -> dict[str, Any]:
    return composed("+experiment=sft", "scale=smoke", "logger=none", f"run.dir={runs}/{name}", *more)


def step(cfg: dict[str, Any], label: str) -> Path:
    return next(s.directory for s in pipeline.plan_steps(cfg) if s.label == label)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the first three steps of a run."""
    runs = tmp_path_factory.mktemp("made") / "runs"
    for label in ("teacher", "cache", "init"):
        pipeline.run(smoke(runs, f"only={label}"))
    return runs


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made, tmp_path / "runs", symlinks=True)
    return tmp_path / "runs"


def contents(directory: Path) -> dict[str, str]:
    return {str(p.relative_to(directory)): sha256(p) for p in directory.rglob("*") if p.is_file()}


def flip(path: Path) -> None:
    """Change one byte and neither size nor times, as a disk does it."""
    facts = path.stat()
    with path.open("r+b") as file:
        file.seek(facts.st_size // 2)
        byte = file.read(1)
        file.seek(facts.st_size // 2)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


# Damage


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_file_is_named_its_step_put_aside_and_made_again(
    how: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = smoke(runs, "only=init")
    directory = step(cfg, "init")
    before, others = contents(directory), contents(step(cfg, "cache"))
    weights = directory / "model" / "model.safetensors"
    {"flipped": flip, "cut": lambda p: os.truncate(p, 100), "gone": Path.unlink}[how](weights)
    pipeline.run(cfg)
    said = capsys.readouterr().out.replace("\n", " ")
    assert "model/model.safetensors missing or changed" in said
    after = contents(directory)
    assert {k: v for k, v in after.items() if k != STEP_FILE} == {k: v for k, v in before.items() if k != STEP_FILE}
    assert (directory.with_name(directory.name + ".damaged") / STEP_FILE).is_file()
    assert contents(step(cfg, "cache")) == others
    pipeline.run(cfg)
    assert "is complete" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", '{"files": {"a": ', "[]", '{"files": {"teacher.json": 1}}'])
def test_a_step_whose_description_is_damaged_is_made_again(
    text: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = smoke(runs, "only=init")
    (step(cfg, "init") / STEP_FILE).write_text(text)
    pipeline.run(cfg)
    assert "step.json missing or changed" in capsys.readouterr().out.replace("\n", " ")
    assert store.damage(step(cfg, "init"), thorough=True) == []


def test_large_steps_are_hashed_before_they_are_read_and_when_a_file_is_young(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store, "ALWAYS_HASHED_BYTES", 0)
    cfg = smoke(runs)
    teacher, init = step(cfg, "teacher"), step(cfg, "init")
    weights = teacher / "model" / "model.safetensors"
    sound = sha256(weights)
    flip(weights)
    assert store.damage(teacher, thorough=False) == []  # size and times are right, and nobody reads it now
    assert store.damage(teacher, thorough=True) == ["model/model.safetensors"]
    shutil.rmtree(init)
    with pytest.raises(DanteError, match=r"'init' reads 'teacher', whose model/model.safetensors"):
        pipeline.run(smoke(runs, "only=init"))
    recipe = {**cfg, "steps": {k: v for k, v in cfg["steps"].items() if k in ("teacher", "cache", "init")}}
    pipeline.run(recipe)
    said = capsys.readouterr().out.replace("\n", " ")
    assert "teacher: model/model.safetensors missing or changed" in said
    assert sha256(weights) == sound
    assert store.damage(init, thorough=True) == []
    flip(weights)
    os.utime(weights, ns=(time.time_ns() + 10**9,) * 2)
    assert store.damage(teacher, thorough=False) == ["model/model.safetensors"]


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_cache_is_named_and_sealed_again_from_the_answers_that_were_kept(
    how: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dante.cache.__main__ import main as tool

    cfg = smoke(runs, "only=cache")
    directory = step(cfg, "cache")
    before, answers = contents(directory), contents(runs / ".answers")
    assert answers
    shard = next(directory.glob("records-*"))
    {"flipped": flip, "cut": lambda p: os.truncate(p, 100), "gone": Path.unlink}[how](shard)
    assert tool(["verify", str(directory)]) == 1
    said = capsys.readouterr()
    assert shard.name in said.out + said.err
    pipeline.run(cfg)
    after = contents(directory)
    assert {k: v for k, v in after.items() if k != STEP_FILE} == {k: v for k, v in before.items() if k != STEP_FILE}
    assert contents(runs / ".answers") == answers  # nothing was asked again
    assert not (directory / "worker.log").exists()
    assert tool(["verify", str(directory)]) == 0


def test_a_damaged_cache_manifest_does_not_stop_the_plan(runs: Path) -> None:
    from dante.cost.estimate import estimate

    cfg = smoke(runs, "only=cache")
    manifest = step(cfg, "cache") / "manifest.json"
    sound = manifest.read_bytes()
    manifest.write_bytes(sound[: len(sound) // 2])
    assert estimate(cfg, pipeline.plan_steps(cfg)).counted is False
    pipeline.run(cfg)
    assert manifest.read_bytes() == sound


def test_a_damaged_configuration_is_said_to_be_damaged(runs: Path) -> None:
    (runs / "run" / "config.yaml").write_text("steps: {a")
    with pytest.raises(DanteError, match="stored configuration is damaged"):
        pipeline.run(smoke(runs, "only=init"))
    pipeline.run(smoke(runs, "only=init", "on_existing=overwrite"))


# Moves


def test_runs_move_as_a_whole_and_not_without_their_steps(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = runs.parent / "elsewhere" / "archive"
    moved.parent.mkdir()
    runs.rename(moved)
    for label in ("teacher", "cache", "init"):
        pipeline.run(smoke(moved, f"only={label}"))
    assert capsys.readouterr().out.count("is complete") == 3

    alone = runs.parent / "alone"
    alone.mkdir()
    (moved / "run").rename(alone / "run")
    with pytest.raises(DanteError, match=r"links lead nowhere.*move the folder \.steps.*on_existing=overwrite"):
        pipeline.run(smoke(alone, "only=teacher"))
    assert not (alone / ".steps").exists()
    (moved / ".steps").rename(alone / ".steps")
    pipeline.run(smoke(alone, "only=teacher"))
    assert "is complete" in capsys.readouterr().out


def test_a_step_that_somebody_deleted_is_simply_made_again(runs: Path) -> None:
    directory = step(smoke(runs), "init")
    shutil.rmtree(directory)
    pipeline.run(smoke(runs, "only=init"))
    assert store.damage(directory, thorough=True) == []


def test_a_run_copied_with_its_links_followed_says_what_is_in_the_way(runs: Path) -> None:
    (runs / "run" / "teacher").unlink()
    (runs / "run" / "teacher").mkdir()
    with pytest.raises(DanteError, match="'teacher' is in the way"):
        pipeline.run(smoke(runs, "only=teacher"))


# Company


@contextlib.contextmanager
def held(path: Path, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock for a while."""
    code = (
        "import sys, time; from pathlib import Path; from dante.system import locks\n"
        "with locks.hold(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(float(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_second_start_of_a_run_is_refused_and_disturbs_nothing(runs: Path) -> None:
    before = contents(runs)
    with held(runs / "run" / ".lock", 60) as other:
        expected = f"is being worked on by process {other.pid} on {socket.gethostname()}"
        with pytest.raises(DanteError, match=expected):
            pipeline.run(smoke(runs, "only=teacher", "on_existing=overwrite"))
    now = contents(runs)
    assert json.loads((runs / "run" / ".lock.owner").read_text())["pid"] == other.pid
    assert {k: v for k, v in now.items() if k != "run/.lock.owner"} == before
    pipeline.run(smoke(runs, "only=teacher"))  # the other one was killed: its note does not count
    assert not (runs / "run" / ".lock.owner").exists()


def test_a_step_that_another_run_makes_is_waited_for(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = step(smoke(runs), "init")
    spare = runs / "spare"
    directory.rename(spare)
    holding, waiting, notes = threading.Event(), threading.Event(), []

    def make() -> None:
        with locks.hold(store.lock_of(directory)):
            holding.set()
            assert waiting.wait(60)
            spare.rename(directory)

    def note(text: str) -> None:
        notes.append(text)
        waiting.set()

    monkeypatch.setattr(console, "note", note)
    other = threading.Thread(target=make)
    other.start()
    holding.wait()
    pipeline.run(smoke(runs, "only=init"))
    other.join()
    owner = f"process {os.getpid()} on {socket.gethostname()}"
    assert notes == [f"init: {owner} is making this step for another run; waiting for it"]
    assert "is complete" in capsys.readouterr().out


def test_a_stop_while_waiting_is_heard(runs: Path) -> None:
    directory = step(smoke(runs), "init")
    shutil.rmtree(directory)
    with held(store.lock_of(directory), 60), interrupt.handled():
        threading.Timer(1.0, lambda: os.kill(os.getpid(), 15)).start()
        with pytest.raises(interrupt.Interrupted):
            pipeline.run(smoke(runs, "only=init"))


# Errors of a stage


def test_what_nobody_expected_names_the_step_and_keeps_its_frames(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dante.students import stage

    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("nobody expected this")

    monkeypatch.setattr(stage, "check_architecture", broken)
    shutil.rmtree(step(smoke(runs), "init"))
    with pytest.raises(StepFailed) as caught:
        pipeline.run(smoke(runs, "only=init"))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    code, said = main(monkeypatch, capsys, runs, "only=init")
    assert code == 2
    assert "ZeroDivisionError: nobody expected this" in said
    assert said.strip().splitlines()[-1].startswith("error step 'init' failed")
    assert "the same command continues" in said.strip().splitlines()[-1]


def main(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs: Path, *more: str
) -> tuple[int, str]:
    """Exit code and standard error of the command line."""
    arguments = ["+experiment=sft", "scale=smoke", "logger=none", f"run.dir={runs}/run", *more]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    monkeypatch.setattr(train, "failures", [])
    capsys.readouterr()
    code = train.main()
    return code, capsys.readouterr().err


def one_paragraph(code: int, said: str, *expected: str) -> None:
    assert code == 2, said
    assert len(said.strip().splitlines()) == 1, said
    assert said.startswith("error ")
    assert "Traceback" not in said
    for part in expected:
        assert part in said, said


def test_a_record_that_is_too_long_is_named_before_weights_are_loaded(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dante.fit import stage

    monkeypatch.setattr(stage, "begun", lambda *a, **k: pytest.fail("weights were loaded first"))
    code, said = main(monkeypatch, capsys, runs, "only=fit", "fit.max_tokens=20", "on_existing=overwrite")
    one_paragraph(code, said, "record ", "a pack holds 20", "Where: fit.max_tokens", "fit.overlong=drop")


def test_a_template_that_cannot_be_masked_and_weights_that_are_not_there(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = runs.parent / "model"
    shutil.copytree(step(smoke(runs), "teacher") / "model", model)
    start = ["only=init", "on_existing=overwrite", f"student.source={model}"]
    template = model / "chat_template.jinja"
    good = template.read_text()
    template.write_text("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}")
    one_paragraph(*main(monkeypatch, capsys, runs, *start), "template")
    template.write_text(good)
    weights = model / "model.safetensors"
    sound = weights.read_bytes()
    weights.write_bytes(sound[: len(sound) // 2])
    one_paragraph(*main(monkeypatch, capsys, runs, *start), "is cut off", str(weights), "student.source")
    weights.unlink()
    one_paragraph(*main(monkeypatch, capsys, runs, *start), "has no weights", str(model), "student.source")
    shutil.rmtree(model)
    one_paragraph(*main(monkeypatch, capsys, runs, *start), str(model), "student.source")
    assert not (step(smoke(runs, *start), "init")).exists()


def poison(file: Path, name: str = "model.norm.weight") -> None:
    tensors = load_file(file)
    tensors[name] = tensors[name].clone()
    tensors[name][3] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})


def redescribe(directory: Path) -> None:
    """Make a changed step pass for a sound one: what is tested lies behind the hashes."""
    description = json.loads((directory / STEP_FILE).read_text())
    (directory / STEP_FILE).unlink()
    directory.rename(store.partial_of(directory))
    store.publish(directory, description)


def test_weights_that_are_not_numbers_are_named_where_they_enter(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = smoke(runs)
    told = ("the tensor 'model.norm.weight' holds 1 of 64 values that are not finite",)
    model = runs.parent / "model"
    shutil.copytree(step(cfg, "teacher") / "model", model)
    poison(model / "model.safetensors")
    start = ["only=init", "on_existing=overwrite", f"student.source={model}"]
    one_paragraph(*main(monkeypatch, capsys, runs, *start), *told, str(model))

    init = step(cfg, "init")
    sound = (init / "model" / "model.safetensors").read_bytes()
    poison(init / "model" / "model.safetensors")
    redescribe(init)
    start = ["only=fit", "on_existing=overwrite", "fit.steps=2"]
    one_paragraph(*main(monkeypatch, capsys, runs, *start), *told, str(init))

    (init / "model" / "model.safetensors").write_bytes(sound)
    redescribe(init)
    code, said = main(monkeypatch, capsys, runs, *start)
    assert code == 0, said
    fit = step(smoke(runs, *start), "fit")
    poison(fit / "student.safetensors")
    redescribe(fit)
    start = ["only=release", *start[1:]]
    one_paragraph(*main(monkeypatch, capsys, runs, *start), *told, "student.safetensors")


def test_another_configuration_and_paths_that_are_none(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(runs)
    one_paragraph(*main(monkeypatch, capsys, runs, "cache.seed=7"), "cache.seed: 0 → 7", "cache finished", "run.name=")
    assert contents(runs) == before
    file = runs.parent / "file"
    file.write_text("not a folder")
    for run_dir in (file, file / "below"):
        said = main(monkeypatch, capsys, runs, f"run.dir={run_dir}")
        one_paragraph(*said, "needs a directory where something else is", str(file), "run.dir")
    assert file.read_text() == "not a folder"


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A tmpfs; skips where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_file_system_that_may_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "readonly", "size=1m,ro"):
        said = main(monkeypatch, capsys, tmp_path / "readonly", "only=teacher")
        one_paragraph(*said, "Read-only file system", str(tmp_path / "readonly"), "run.dir")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    one_paragraph(*main(monkeypatch, capsys, tmp_path, "only=teacher"), "Permission denied", "run.dir")


# A full disk


def start_in_a_fork(arguments: list[str]) -> tuple[int, str]:
    """Exit code and standard error of a start, in a process of its own that has everything imported already."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code, said = 1, io.StringIO()
        try:
            sys.argv, train.failures = ["train.py", *arguments], []
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                code = train.main()
        finally:
            os.write(writer, said.getvalue().encode())
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said_there = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said_there


@pytest.mark.parametrize("grow_kib", [500, pytest.param(50, marks=pytest.mark.slow)])
def test_a_full_disk_costs_nothing_that_was_finished(grow_kib: int, made: Path, tmp_path: Path) -> None:
    """The disk grows a little after every start, so that it is full in another place each time."""
    settings = ["+experiment=sft", "scale=smoke", "logger=none", "fit.checkpoint_every_steps=2", "eval.bootstrap=50"]
    whole, disk = tmp_path / "whole", tmp_path / "disk"
    shutil.copytree(made, whole, symlinks=True)
    assert start_in_a_fork([*settings, f"run.dir={whole}/other"]) == (0, "")
    places, files, finished = [], [], {}
    with mounted(disk, "size=16k"):
        one_paragraph(*start_in_a_fork([*settings, f"run.dir={disk}/run"]), "the disk is full", str(disk))
        size_kib = sum(p.stat().st_size + 4096 for p in made.rglob("*")) // 1024
        _resize(disk, size_kib + 200)
        shutil.copytree(made / ".steps", disk / ".steps", dirs_exist_ok=True)
        for start in range(200):
            _resize(disk, size_kib + 50 + start * grow_kib)
            code, said = start_in_a_fork([*settings, f"run.dir={disk}/run"])
            for directory, content in finished.items():  # whatever was complete stays as it was
                assert contents(directory) == content
            finished = {p.parent: contents(p.parent) for p in disk.glob(f".steps/*[0-9a-f]/{STEP_FILE}")}
            if code == 0:
                break
            one_paragraph(code, said, "the disk is full", "GiB free", "the same command continues")
            places.append(said.split("the disk is full: ")[1].split(" could not")[0])
            files.append(said.split("Where: ")[1].split(" (")[0])
        assert code == 0
        assert "step 'fit'" in places
        if grow_kib == 50:  # large steps of growth find the first checkpoint, the largest file, and little else
            assert len(set(files)) > 1, files
        losses = [
            [json.loads(line)["loss"] for line in (run / "fit" / "metrics.jsonl").read_text().splitlines()]
            for run in (disk / "run", whole / "other")
        ]
        assert losses[0] == losses[1]
        for file in ("fit/student.safetensors", "release/model.safetensors", "eval/eval.json"):
            assert sha256(disk / "run" / file) == sha256(whole / "other" / file)
        assert not list(disk.rglob("*.writing"))


def _resize(disk: Path, size_kib: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size_kib}k", disk], check=True)
