"""A teacher's scores beside its cache: kept without anybody's text, used where its weights are not, never where asked else."""  # noqa: E501

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dante.cache import Record
from dante.cache.filters import Truncated
from dante.cache.records.writer import CacheWriter
from dante.cache.shipped import ShippedCache
from dante.errors import DanteError
from dante.evaluate.__main__ import main
from dante.evaluate.kept_scores.keep import keep
from dante.evaluate.score_stage import run
from dante.evaluate.settings import Score
from dante.run.step import Step
from dante.teachers.teacher import Teacher

GSM8K = {
    "_target_": "dante.evaluate.benchmarks.task.Benchmark", "task": "gsm8k", "shots": 0, "limit": 40,
    "common": {"_target_": "x.Common", "seed": 42, "backend": {"_target_": "x.B"}, "sets": {"_target_": "x.S"}},
}  # fmt: skip
MBPP = {"_target_": "dante.evaluate.benchmarks.code.suite.Programs", "task": "mbpp", "allowed": True, "limits": {}}
SETTINGS: dict[str, Any] = {
    "model": "teacher", "seed": 0, "precision": "bf16", "heldout": None, "chat": {},
    "suites": {"gsm8k_0shot": GSM8K, "mbpp_3shot": MBPP},
}  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    records = [Record(id=f"r{i}", prompt=f"Q{i}", teacher_text="A.", output_entropy=0.1) for i in range(20)]
    CacheWriter(tmp_path / "cache").add(records).seal(teacher={"name": "Coder", "sha256": "f" * 64})
    return tmp_path / "cache"


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A finished step as `measure` and the pipeline leave it."""
    step = tmp_path / "eval-teacher"
    rows = [{"model": "teacher", "task": task, "metric": "m", "value": 0.5} for task in ("gsm8k_0shot", "mbpp_3shot")]
    scores = {"model": "teacher", "suites": list(SETTINGS["suites"]), "rows": rows, "others": [], "notes": [],
              "commands": {}, "precision": "bf16"}  # fmt: skip
    for name in SETTINGS["suites"]:
        (step / name).mkdir(parents=True)
        (step / name / "items.jsonl").write_text('{"id": "1", "text": "hash", "slices": [], "values": {}}\n')
        (step / name / "suite.json").write_text("{}")
        (step / name / "samples.jsonl").write_text('{"answer": "somebody\'s text"}\n')
    (step / "scores.json").write_text(json.dumps(scores))
    (step / "step.json").write_text(json.dumps({"settings": SETTINGS, "files": {}}))
    return step


def scored(cache: Path, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """What a step that measures the teacher writes where there are no weights."""
    Teacher("Coder", "org/coder", False, None, "Apache-2.0", None, True).write(tmp_path / "teacher")
    settings = Score.model_validate(copy.deepcopy(SETTINGS) | changes)
    inputs = {"teacher": tmp_path / "teacher", "cache": cache}
    out = tmp_path / "out"
    run(Step("eval-teacher", "score", settings, {"trainer": {"threads": 1}}, inputs, out, "f", 0))
    content: dict[str, Any] = json.loads((out / "scores.json").read_text())
    assert all((out / name / "items.jsonl").is_file() for name in content.get("suites", []))
    return content


def test_scores_travel_with_the_cache_without_answers(measured: Path, cache: Path, tmp_path: Path) -> None:
    assert main(["keep", str(measured), str(cache)]) == 0
    kept = [path.name for path in sorted((cache / "scores").rglob("*")) if path.is_file()]
    assert set(kept) == {"scores.json", "items.jsonl", "suite.json"}
    shipped = ShippedCache(str(cache), 2, 2, {"truncated": Truncated()}, "error")
    out = tmp_path / "step"
    shipped.build(Step("cache", "cache", None, {}, {}, out, "f", 0))
    found = scored(out, tmp_path)
    assert found["suites"] == ["gsm8k_0shot", "mbpp_3shot"]
    assert [row["task"] for row in found["rows"]] == ["gsm8k_0shot", "mbpp_3shot"]
    assert "no weights here" in found["notes"][0]
    assert "came with the cache" in found["notes"][1]


def test_they_are_part_of_what_the_cache_is(measured: Path, cache: Path) -> None:
    shipped = ShippedCache(str(cache), 2, 2, {}, "error")
    before = shipped.identity()
    keep(measured, cache)
    assert shipped.identity() != before


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, ["gsm8k_0shot", "mbpp_3shot"]),
        ({"suites": {"gsm8k_0shot": GSM8K | {"common": GSM8K["common"] | {"sets": {"_target_": "x.Other"}}}}},
         ["gsm8k_0shot"]),
        ({"suites": {"mbpp_3shot": MBPP | {"allowed": False}}}, ["mbpp_3shot"]),
        ({"suites": {"gsm8k_0shot": GSM8K | {"limit": None}, "mbpp_3shot": MBPP}}, ["mbpp_3shot"]),
        ({"suites": {"gsm8k_0shot": GSM8K | {"common": GSM8K["common"] | {"seed": 1}}}}, []),
        ({"chat": {"enable_thinking": False}}, []),
        ({"suites": {"hellaswag": GSM8K}}, []),
    ],
)  # fmt: skip
def test_what_is_asked_otherwise_has_no_row(
    change: dict[str, Any], found: list[str], measured: Path, cache: Path, tmp_path: Path
) -> None:
    keep(measured, cache)
    content = scored(cache, tmp_path, **change)
    assert content["suites"] == found
    if len(found) < len(change.get("suites", SETTINGS["suites"])):
        assert "nothing was kept as it is asked here" in content["notes"][-1]


def test_nothing_beside_the_cache_is_a_note(cache: Path, tmp_path: Path) -> None:
    content = scored(cache, tmp_path)
    assert content["rows"] == []
    assert len(content["notes"]) == 1


def test_what_is_no_teacher_s_is_refused(measured: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DanteError, match="no finished step of scores"):
        keep(tmp_path / "nowhere", cache)
    scores = json.loads((measured / "scores.json").read_text())
    (measured / "scores.json").write_text(json.dumps(scores | {"model": "init"}))
    with pytest.raises(DanteError, match="scores of the init"):
        keep(measured, cache)


def test_scores_of_another_teacher_are_refused(measured: Path, cache: Path, tmp_path: Path) -> None:
    described = json.loads((measured / "step.json").read_text())
    (measured / "step.json").write_text(json.dumps(described | {"inputs": {"teacher": "0123"}}))
    Teacher("Other", "org/other", False, None, "MIT", "e" * 64, True).write(tmp_path / "teacher-0123")
    with pytest.raises(DanteError, match="measured Other, and the cache was written by Coder"):
        keep(measured, cache)
    assert not (cache / "scores").exists()
    Teacher("Coder", "org/coder", False, None, "MIT", "f" * 64, True).write(tmp_path / "teacher-0123")
    assert keep(measured, cache) == ["gsm8k_0shot", "mbpp_3shot"]


def test_scores_beside_other_answers_are_refused_with_what_to_type(measured: Path, cache: Path, tmp_path: Path) -> None:
    keep(measured, cache)
    scores = tmp_path / "scores"
    shutil.move(cache / "scores", scores)
    shutil.rmtree(cache)
    other = Record(id="r", prompt="Q", teacher_text="Another.", output_entropy=0.1)
    CacheWriter(cache).add([other]).seal(teacher={"name": "Coder", "sha256": "f" * 64})
    shutil.move(scores, cache / "scores")
    shipped = ShippedCache(str(cache), 0, 0, {}, "error")
    with pytest.raises(DanteError, match="kept beside other answers.*rm -r"):
        shipped.build(Step("cache", "cache", None, {}, {}, tmp_path / "step", "f", 0))
