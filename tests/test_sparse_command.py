"""`python -m dante.cache sparse`: any engine, killed anywhere and continued, refused where it cannot work."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dante.cache import CacheWriter, Record, read_records
from dante.cache.__main__ import main
from dante.cache.sparse import SparseLogits
from dante.cache.sparse.files import SidecarFile
from dante.cache.sparse.making import store as store_module
from dante.errors import DanteError
from dante.teachers.smoke import SmokeTeacher
from tests.bad_server import BadServer, Reply
from tests.sparse_worker import RECORDS_PER_FILE
from tests.warm import Started

COUNT, BATCH, K = 13, 3, 20
DEADLINE_S = 120.0
PARTIAL = ".logits-topk_tail.partial"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "teacher"
    SmokeTeacher(seed=0, train_steps=1).make(folder)
    return folder


@pytest.fixture(scope="module")
def cache(teacher: Path) -> Path:
    """Beside its teacher, as in a run."""
    texts = ["Jupiter.", "caffè 👍 e più", "It is 60.", "é", "A longer answer, of several words."]
    records = [Record(f"id-{i}", f"Question {i}?", texts[i % 5], 1.0) for i in range(COUNT)]
    folder = teacher.parent / "cache"
    CacheWriter(folder).add(records).seal(teacher={"sha256": sha256_of(teacher)})
    return folder


def sha256_of(teacher: Path) -> str | None:
    from dante.teachers.teacher import load_teacher

    return load_teacher(teacher).sha256


def words(
    cache: Path, teacher: Path, out: Path, *more: str, kind: str = "topk_tail", name: str = "sparse"
) -> list[str]:
    given = [name, str(cache), "--teacher", str(teacher), "--kind", kind, "--out", str(out), "--batch", str(BATCH)]
    return given + [*(() if "--size" in more else ("--size", str(K))), *more]


def start(kill_at: int, arguments: list[str], out: Path) -> Started:
    out.parent.mkdir(exist_ok=True)
    log(out).write_text("")
    return Started("tests.sparse_worker", [str(kill_at), *arguments], log(out), os.environ | {"OMP_NUM_THREADS": "1"})


def log(out: Path) -> Path:
    return out.parent / f"{out.name}.log"


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("logits-*"))}


def durable(out: Path) -> set[str]:
    """Ids of records whose rows are on the disk, in batches or files."""
    return {name for path in out.rglob("*.safetensors") for name in SidecarFile(path).ids}


@pytest.fixture(scope="module")
def whole(cache: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a command that was never disturbed, with as many records as the worker's have."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "RECORDS_PER_FILE", RECORDS_PER_FILE)
        assert main(words(cache, teacher, out, "engine.device=cpu")) == 0
    assert len(files(out)) == 3
    return files(out)


# --- killed and continued --------------------------------------------------------------------------------------------


def survive(kills: list[int], arguments: list[str], out: Path) -> int:
    """Starts that each kill themselves, then one that ends; returns how many were killed."""
    killed = 0
    for kill_at in [*kills, 0]:
        before = durable(out) if out.is_dir() else set()
        code = start(kill_at, arguments, out).wait(DEADLINE_S)
        printed = log(out).read_text()
        assert code in (0, -signal.SIGKILL), printed
        assert before <= durable(out)  # what is moved is in its new place before it leaves the old one
        # All that was on the disk is taken from there, so no more than the batch in flight is made again.
        if code and "plan " not in printed:  # killed while it cleared up what the one before had left
            killed += 1
            continue
        assert f" {len(before)} are there" in printed or f"all {len(before)} records have" in printed
        killed += code != 0
        if code == 0:
            break
    return killed


def test_killed_at_one_operation_after_the_other_it_ends_with_the_same_bytes(
    cache: Path, teacher: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    arguments = words(cache, teacher, tmp_path / "out", "engine.device=cpu")
    assert survive([1, 2, 3, 4, 3, 5], arguments, tmp_path / "out") == 6
    assert files(tmp_path / "out") == whole
    assert not (tmp_path / "out" / PARTIAL).exists()


@pytest.mark.slow
def test_killed_at_every_operation_and_also_where_it_continues(
    cache: Path, teacher: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Renames of five batches and three files, removals of all batches, the removal of the folder."""
    for first in range(1, 100):
        out = tmp_path / f"out{first}"
        arguments = words(cache, teacher, out, "engine.device=cpu")
        killed = survive([first, 1 + first % 4], arguments, out)
        assert files(out) == whole, f"killed at {first}"
        if not killed:
            break
    print(f"{first - 1} operations")
    assert first > 13


def test_another_batch_size_and_more_records_after_a_kill_give_the_same_bytes(
    cache: Path, teacher: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    few = [*words(cache, teacher, out, "engine.device=cpu"), "--count", "7"]
    assert survive([], few, out) == 0
    assert [len(SidecarFile(path).ids) for path in sorted(out.glob("logits-*"))] == [5, 2]
    arguments = [*words(cache, teacher, out, "engine.device=cpu"), "--batch", "4"]
    assert survive([3], arguments, out) == 1
    assert files(out) == whole


# --- a server --------------------------------------------------------------------------------------------------------


def best_of(token: int, k: int) -> list[int]:
    """Ids that the server takes for the likeliest at a token, which is one of them or, if odd, none."""
    return [(token * (1 + token % 2) + r * 13) % 512 for r in range(k)]


def scores(body: Any) -> list[Any]:
    """What vLLM says of a text: as many ids as asked for, and the one that stands there."""

    def entry(token: int) -> dict[str, Any]:
        best = {str(i): {"logprob": -1.0 - r / 2} for r, i in enumerate(best_of(token, body["prompt_logprobs"]))}
        return {str(token): {"logprob": -20.0}} | best

    return [None, *map(entry, body["prompt"][1:])]


def answering(number: int, path: str, body: Any) -> Reply:
    return Reply({"choices": [{"prompt_logprobs": scores(body)}]})


def at(server: BadServer, *more: str) -> list[str]:
    return ["--engine", "server", f"engine.base_url={server.url}", "engine.max_concurrency=1", *more]


def test_a_server_s_rows_are_what_it_said(cache: Path, teacher: Path, tmp_path: Path) -> None:
    with BadServer(answering) as server:
        assert main(words(cache, teacher, tmp_path, *at(server))) == 0
        texts = [seen.body["prompt"] for seen in server.asked[1:]]  # the first asks what it can do
    logits = SparseLogits(tmp_path, "topk_tail")
    assert len(texts) == len(logits) == COUNT
    rows = [tuple(sorted(best_of(token, K))) for text in texts for token in text]
    for record in read_records(cache):
        kept = [tuple(row) for row in logits.for_record(record).ids.tolist()]
        assert any(rows[at : at + len(kept)] == kept for at in range(len(rows)))


def test_sigkill_costs_at_most_one_batch_of_questions(cache: Path, teacher: Path, tmp_path: Path) -> None:
    def slowly(number: int, path: str, body: Any) -> Reply:
        return Reply(answering(number, path, body).body, delay_s=0.03)

    with BadServer(slowly) as server:
        assert (
            start(0, words(cache, teacher, tmp_path / "whole", *at(server)), tmp_path / "whole").wait(DEADLINE_S) == 0
        )
        assert len(server.asked) == COUNT + 1
        server.seen = []
        arguments = words(cache, teacher, tmp_path / "out", *at(server))
        for asked in (6, 12):  # in the middle of a batch
            process = start(0, arguments, tmp_path / "out")
            until(lambda asked=asked: len(server.asked) >= asked)
            os.killpg(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        assert start(0, arguments, tmp_path / "out").wait(DEADLINE_S) == 0
        starts, again = 3, len(server.asked) - 3 - COUNT
    print(f"{again} of {COUNT} texts were asked for again after {starts - 1} kills in batches of {BATCH}")
    assert 0 < again <= 2 * BATCH
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def until(moment: Any) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not moment():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("silently", [False, True])
def test_a_server_that_gives_fewer_is_refused_before_any_text_is_asked_for(
    silently: bool, cache: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def limited(number: int, path: str, body: Any) -> Reply:
        if body["prompt_logprobs"] > 11 and not silently:
            return Reply({"error": {"message": "Requested prompt logprobs of 20, max allowed: 11"}}, 400)
        return answering(number, path, body | {"prompt_logprobs": min(11, body["prompt_logprobs"])})

    with BadServer(limited) as server:
        assert main(words(cache, teacher, tmp_path, *at(server))) == 1
        error = capsys.readouterr().err
        assert "the engine server gives at most 11" in error
        assert "--max-logprobs 20" in error
        assert len({tuple(seen.body["prompt"]) for seen in server.asked}) == 1  # one text, again and again
        fix = re.findall(r"Fix: (--size \d+)", error)[0].split()
        assert main(words(cache, teacher, tmp_path, *at(server), *fix)) == 0
    assert SparseLogits(tmp_path, "topk_tail").header.size == 11


def test_what_is_wrong_with_a_server_is_told_in_its_own_words(
    cache: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BadServer(lambda n, path, body: Reply({"error": {"message": "no such thing"}}, 400)) as server:
        assert main(words(cache, teacher, tmp_path, *at(server))) == 1
    assert "no such thing" in capsys.readouterr().err


def test_two_commands_do_not_write_into_one_folder_and_a_stopped_one_says_how_to_go_on(
    cache: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BadServer(lambda n, path, body: Reply(answering(n, path, body).body, delay_s=0.5)) as server:
        arguments = words(cache, teacher, tmp_path / "out", *at(server))
        process = start(0, arguments, tmp_path / "out")
        until(lambda: server.asked)
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert f"are being written here by process {process.pid}" in error
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 143
        assert "the same command continues" in log(tmp_path / "out").read_text()
        server.behave = answering
        assert main(arguments) == 0
        other = shlex.split(error.partition("--out ")[2].strip(".\n"))[0]  # what the message offered
        assert main([*arguments, "--out", other]) == 0
    assert files(Path(other)) == files(tmp_path / "out")


# --- refusals --------------------------------------------------------------------------------------------------------

WRONG = {
    "no engine": (["--engine", "vlm"], r"no engine named 'vlm'.*Allowed: ray, server, .*did you mean 'vllm'"),
    "no key": (
        ["engine.dtyp=float32"],
        r"no setting engine\.dtyp.*Allowed: engine\.dtype, .*'dtype'",
    ),
    "no key inside": (["--engine", "ray", "engine.engine.x=1"], r"no setting engine\.engine\.x.*engine\.engine\.dtype"),
    "below a value": (["engine.dtype.x=1"], r"no setting engine\.dtype\.x"),
    "no value": (["engine.batch_size=many"], r"engine\.batch_size='many' is not accepted"),
    "unknown dtype": (["engine.dtype=int8"], r"unknown dtype 'int8'.*float32, bfloat16, float16"),
    "no engine inside": (["--engine", "ray", "engine@engine.engine=vlm"], r"no engine named 'vlm'.*'vllm'"),
    "several": (["engine.batch_size=1,2"], r"engine\.batch_size=1,2 is no single value"),
    "no override": (["engine.dtype=[1"], r"'engine\.dtype=\[1' is not a key=value"),
    "a run's key": (["teacher.python=x"], r"'teacher\.python=x' is neither an option .* Allowed: engine\.KEY=VALUE"),
    "an option": (["--sise", "20"], r"'--sise' is neither an option"),
    "size": (["--size", "0"], r"--size 0.*Allowed: 1 to 255"),
    "batch": (["--batch", "0"], r"--batch 0.*Allowed: 1 or more"),
    "vllm draws": (["--engine", "vllm", "--kind", "random_sampling"], r"vllm does not return whole.*--engine transf"),
    "ray draws": (["--engine", "ray", "--kind", "random_sampling"], r"ray does not return whole.*--kind topk_tail"),
    "vllm": (["--engine", "vllm", "--size", "60"], r"gives at most 50.*--size 50, or engine\.max_logprobs=60"),
    "copies of vllm": (
        ["--engine", "ray", "engine@engine.engine=vllm", "engine.engine.max_logprobs=9"],
        r"engine ray gives at most 9.*--size 9, or engine\.engine\.max_logprobs=20",
    ),
    "python": (["--engine", "vllm", "--python", "/nowhere"], r"no interpreter at '/nowhere'.*Where: --python"),
    "split": (["--split", "heldout"], r"the cache has no heldout records"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_work_is_told_in_one_paragraph_and_makes_nothing(
    name: str, cache: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed, told = WRONG[name]
    assert main(words(cache, teacher, tmp_path / "out", *typed)) == 1
    error = capsys.readouterr().err
    assert re.search(told, error), error
    assert error.count("\n") == 1
    assert not files(tmp_path / "out")


def test_sparse_logits_of_another_making_are_refused_and_both_fixes_work(
    cache: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = words(cache, teacher, out, "engine.device=cpu")
    start(4, arguments, out).wait(DEADLINE_S)
    assert (out / PARTIAL).is_dir()  # batches alone bind as well
    other = [*arguments, "--size", "9"]
    assert main(other) == 1
    error = capsys.readouterr().err
    assert "size: 20 → 9" in error
    elsewhere, delete = re.findall(r"--out (\S+), or .*: (rm -rf .*)\.\n", error)[0]
    assert main([*other, "--out", elsewhere]) == 0
    assert SparseLogits(elsewhere, "topk_tail").header.size == 9
    subprocess.run(delete, shell=True, check=True)
    assert main(other) == 0
    assert SparseLogits(out, "topk_tail").header.size == 9


def test_rows_of_another_text_are_refused_before_the_engine_is_opened(
    cache: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(cache, teacher, tmp_path, "engine.device=cpu")) == 0
    changed = [Record(r.id, r.prompt, "Other.", 1.0) for r in read_records(cache)]
    CacheWriter(tmp_path / "changed").add(changed).seal()
    assert main(words(tmp_path / "changed", teacher, tmp_path, "engine.device=cpu")) == 1
    assert "were made for another text" in capsys.readouterr().err


def test_without_anything_to_do_no_engine_is_asked(
    cache: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BadServer(answering) as server:
        assert main(words(cache, teacher, tmp_path, *at(server))) == 0
        server.seen = []
        capsys.readouterr()
        assert main(words(cache, teacher, tmp_path, *at(server))) == 0
        assert not server.seen
    printed = capsys.readouterr().out
    assert "nothing to do: all 13 records" in printed
    assert re.search(r"bytes per token +[\d.]+ at a vocabulary of 512", printed)


def test_the_command_that_is_offered_makes_what_is_missing(
    cache: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DanteError, match="no random_sampling logits") as caught:
        SparseLogits(cache, "random_sampling")
    python, *typed = shlex.split(caught.value.fix)
    assert str(teacher) in typed
    ended = subprocess.run([sys.executable, *typed, "--count", "2"], check=True, capture_output=True, text=True)
    assert "2 of 2 records to go" in ended.stdout
    assert "bytes/token" in ended.stdout
    logits = SparseLogits(cache, "random_sampling")
    assert len(logits) == 2
    for path in logits.paths:
        path.unlink()


def test_the_earlier_name_still_works(cache: Path, teacher: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    assert main(words(cache, teacher, tmp_path, "--count", "5", "engine.device=cpu", name="logits")) == 0
    assert files(tmp_path)["logits-topk_tail-00000.safetensors"] == whole["logits-topk_tail-00000.safetensors"]


def test_a_dtype_is_float32_unless_it_is_typed(
    cache: Path, teacher: Path, whole: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--count", "5", "engine.device=cpu")
    assert main(words(cache, teacher, tmp_path / "a", *options, "engine.dtype=auto")) == 0
    assert files(tmp_path / "a")["logits-topk_tail-00000.safetensors"] == whole["logits-topk_tail-00000.safetensors"]
    assert main(words(cache, teacher, tmp_path / "b", "engine.dtype=bfloat16", *options)) == 0
    printed = capsys.readouterr().out
    assert "engine transformers float32" in printed
    assert "engine transformers bfloat16" in printed
    record = next(r for r in read_records(cache) if r.id in SparseLogits(tmp_path / "b", "topk_tail"))
    pair = [SparseLogits(tmp_path / name, "topk_tail").for_record(record).probabilities for name in ("a", "b")]
    assert 0 < np.abs(pair[0] - pair[1]).max() < 0.1


@pytest.mark.slow
def test_copies_on_ray_write_the_same_bytes(
    cache: Path, teacher: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    typed = ["--engine", "ray", "engine.piece_requests=2", "engine.engine.device=cpu"]
    assert start(0, words(cache, teacher, tmp_path / "out", *typed), tmp_path / "out").wait(DEADLINE_S) == 0
    assert files(tmp_path / "out") == whole
