"""What steps read from outside the run: replaced files are noticed, unchanged ones are read once."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from dante.cost.estimate import estimate
from dante.errors import DanteError
from dante.models import outside
from dante.run import pipeline
from dante.teachers.smoke import SmokeTeacher
from tests.test_config import composed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    SmokeTeacher(seed=0, train_steps=1).make(folder)
    return folder / "model"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "mine"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "dante" / "hashes"


def plan(tmp_path: Path, *overrides: str) -> dict[str, pipeline.PlannedStep]:
    cfg = composed("+experiment=sft", "scale=smoke", "logger=none", f"run.dir={tmp_path}/runs/a", *overrides)
    return {step.label: step for step in pipeline.plan_steps(cfg)}


def change_weights(folder: Path) -> None:
    """Another training run saved there: same names, same sizes."""
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def change_template(folder: Path) -> None:
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text().replace("small model", "tiny model"))


def change_stop_tokens(folder: Path) -> None:
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [2, 5]}))


OWN_TEACHER = (
    "teacher.make._target_=dante.teachers.hub.HubTeacher", "~teacher.make.seed", "+teacher.make.model={}",
    "+teacher.make.revision=null", "+teacher.make.licence=MIT",
)  # fmt: skip


@pytest.mark.parametrize("change", [change_weights, change_template, change_stop_tokens])
def test_answers_that_a_folder_gave_are_not_taken_for_the_changed_one_s(
    folder: Path, tmp_path: Path, change: Any
) -> None:
    typed = [override.format(folder) for override in OWN_TEACHER]

    def stores() -> set[str]:
        cfg = composed("+experiment=sft", "scale=smoke", "logger=none", "only=[teacher,cache]", *typed,
                       "on_existing=overwrite", f"run.dir={tmp_path}/runs/a")  # fmt: skip
        pipeline.run(cfg)
        return {path.name for path in (tmp_path / "runs" / ".answers").iterdir()}

    first = stores()
    assert stores() == first
    change(folder)
    assert len(stores()) == len(first) + 1


@pytest.mark.parametrize("change", [change_weights, change_template])
@pytest.mark.parametrize(
    ("overrides", "first"),
    [
        (("student=local", "student.source={}"), "init"),
        (OWN_TEACHER, "teacher"),
    ],
)
def test_a_replaced_folder_makes_its_step_and_what_follows_again(
    folder: Path, tmp_path: Path, overrides: tuple[str, ...], first: str, change: Any
) -> None:
    typed = [override.format(folder) for override in overrides]
    before = plan(tmp_path, *typed)
    (folder / "trainer_state.json").write_text("{}")
    (folder / "README.md").write_text("Nothing that is loaded.")
    assert {k: s.fingerprint for k, s in plan(tmp_path, *typed).items()} == {
        k: s.fingerprint for k, s in before.items()
    }
    change(folder)
    after = plan(tmp_path, *typed)
    labels = list(before)
    changed = {label for label in labels if before[label].fingerprint != after[label].fingerprint}
    assert first in changed
    assert {"fit", "release", "eval"} <= changed
    assert ("teacher" in changed) == (first == "teacher")


def test_steps_that_read_nothing_from_outside_keep_the_identity_they_had(tmp_path: Path) -> None:
    cfg = composed("+experiment=sft", "scale=smoke", f"run.dir={tmp_path}/a")
    for label in ("teacher", "init"):
        assert pipeline._content(cfg["steps"][label]) is None
    hub = composed("+experiment=sft", "scale=smoke", "student.source=org/name", f"run.dir={tmp_path}/a")
    assert pipeline._content(hub["steps"]["init"]) is None


def test_the_same_weights_elsewhere_are_the_same_content(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert outside.model_identity(folder) == outside.model_identity(other) != {}


@pytest.mark.parametrize("kind", ["jsonl", "tokenizer", "evaluation set"])
def test_prompts_tokenizers_and_evaluation_sets_of_a_cache_are_content(folder: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "question": "a"}\n')
    one = "+cache.source.filters.one={_target_: dante.cache.filters."
    sets = f"{{own: {{_target_: dante.cache.filters.FileSet, path: '{file}', fields: [question]}}}}"
    asked = ["cache=generated", "engine=transformers"]
    typed, read = {
        "jsonl": ([*asked, "prompts=jsonl", f"prompts.path={file}"], file),
        "tokenizer": ([f"{one}TooLong, tokenizer: '{folder}', max_tokens: 9}}"], folder / "tokenizer.json"),
        "evaluation set": ([f"{one}Decontaminate, ngram: 8, sets: {sets}}}"], file),
    }[kind]
    before = plan(tmp_path, *typed)["cache"].fingerprint
    assert plan(tmp_path, *typed)["cache"].fingerprint == before
    read.write_text(read.read_text() + "\n")
    assert plan(tmp_path, *typed)["cache"].fingerprint != before


# --- the memory of hashes --------------------------------------------------------------------------------------------


@pytest.fixture
def big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Path]]:
    """A file that is remembered, and the list of files that were read."""
    file = tmp_path / "weights" / "model.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"a" * 4096)
    reads: list[Path] = []
    real = outside.sha256
    monkeypatch.setattr(outside, "_REMEMBERED_BYTES", 1024)
    monkeypatch.setattr(outside, "_SETTLED_NS", 0)
    monkeypatch.setattr(outside, "sha256", lambda path: reads.append(path) or real(path))
    outside._once.cache_clear()
    time.sleep(0.01)
    return file, reads


def test_an_unchanged_file_is_read_once_and_a_touched_one_again(big: tuple[Path, list[Path]], home: Path) -> None:
    file, reads = big
    first = outside.model_identity(file.parent)
    assert outside.model_identity(file.parent) == first
    assert len(reads) == 1
    assert [json.loads(note.read_text())["path"] for note in home.glob("*.json")] == [str(file)]
    os.utime(file, ns=(1, 1))
    assert outside.model_identity(file.parent) == first
    assert len(reads) == 2


def test_another_content_of_the_same_size_and_date_is_noticed(big: tuple[Path, list[Path]]) -> None:
    file, _ = big
    facts = file.stat()
    first = outside.model_identity(file.parent)
    time.sleep(0.01)
    file.write_bytes(b"b" * 4096)
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # as `cp -p` and `rsync -t` do
    assert outside.model_identity(file.parent) != first


def test_a_file_just_written_is_not_trusted_to_its_date(
    big: tuple[Path, list[Path]], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "_SETTLED_NS", 2_000_000_000)
    outside.model_identity(big[0].parent)
    assert not list(home.glob("*.json"))


def test_a_home_that_cannot_be_written_costs_time_only(
    big: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    assert outside.model_identity(big[0].parent) == outside.model_identity(big[0].parent) != {}


def test_a_damaged_note_is_not_believed(big: tuple[Path, list[Path]], home: Path) -> None:
    file, reads = big
    first = outside.model_identity(file.parent)
    (note,) = home.glob("*.json")
    note.write_text("{bro")
    assert outside.model_identity(file.parent) == first
    assert len(reads) == 2


# --- student=local ---------------------------------------------------------------------------------------------------


def local(folder: Path, tmp_path: Path, *overrides: str) -> dict[str, Any]:
    return composed("+experiment=sft", "scale=smoke", "student=local", f"student.source={folder}",
                    f"run.dir={tmp_path}/a", *overrides)  # fmt: skip


def test_a_folder_of_the_user_s_is_planned_from_its_config(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    cfg = local(folder, tmp_path)
    assert (cfg["student"]["name"], cfg["student"]["licence"]) == ("mine", "mit")
    assert cfg["steps"]["init"]["settings"] == cfg["student"]
    whole = estimate(cfg, pipeline.plan_steps(cfg)).parameters
    stated = composed("+experiment=sft", "scale=smoke", "student=smoke_full", f"run.dir={tmp_path}/a")
    assert whole == estimate(stated, pipeline.plan_steps(stated)).parameters
    pruned = local(folder, tmp_path, "student.init.layers=[0,3]")
    half = composed("+experiment=sft", "scale=smoke", f"run.dir={tmp_path}/a")
    assert estimate(pruned, pipeline.plan_steps(pruned)).parameters == estimate(half, []).parameters


def test_a_folder_of_the_user_s_becomes_a_student(folder: Path, tmp_path: Path) -> None:
    typed = ("student.init.layers=[1,2]", "student.dtype=bfloat16", f"run.dir={tmp_path}/runs/a", "only=[teacher,init]")
    cfg = local(folder, tmp_path, *typed)
    run = pipeline.run(cfg)
    config = json.loads((run / "init" / "model" / "config.json").read_text())
    record = json.loads((run / "init" / "init.json").read_text())
    assert (config["num_hidden_layers"], config["dtype"]) == (2, "bfloat16")
    assert (record["name"], record["licence"], record["layers"]) == ("mine", "unknown", [1, 2])


def test_what_a_local_student_lacks_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DanteError, match=r"student\.source has no value.*student\.source=VALUE"):
        composed("+experiment=sft", "scale=smoke", "student=local")
    with pytest.raises(DanteError, match=r"not known before it is made.*student=smollm2_135m"):
        composed("+experiment=sft", "scale=smoke", "student=local", "student.source=teacher")
    for broken, words in ((tmp_path / "nothing", "does not exist"), (folder, "layer 4 does not exist")):
        cfg = local(broken, tmp_path, "student.init.layers=[0,4]")
        with pytest.raises(DanteError, match=words):
            estimate(cfg, pipeline.plan_steps(cfg))
