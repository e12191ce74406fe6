"""Results of other harnesses: lm-eval's as lm-eval writes them, the others' in their documented form."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCardData
from huggingface_hub.repocard import metadata_load
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from dante.errors import DanteError
from dante.evaluate.__main__ import main
from dante.evaluate.foreign.choose import choose
from dante.evaluate.foreign.collect import COMMAND, READERS, collect
from dante.evaluate.foreign.result import Result, Score
from dante.evaluate.foreign.tasks import name_of
from dante.evaluate.foreign.write import evaluation
from dante.statistics.pass_at_k import pass_at_k

WORDS = ("red", "blue", "green", "black")
QUESTIONS = 12
COMMON = """\
dataset_path: json
dataset_kwargs: {data_files: {test: FILE, train: FILE}}
test_split: test
fewshot_split: train
"""
CHOICE = """\
output_type: multiple_choice
doc_to_text: question
doc_to_choice: options
doc_to_target: gold
metric_list: [{metric: acc}, {metric: acc_norm}]
metadata: {version: 1.0}
"""
# The random model writes "is is is", or "forefore": strict reads the second letter, flexible the last one.
WRITTEN = """\
output_type: generate_until
doc_to_text: question
doc_to_target: letter
generation_kwargs: {until: ["zz"], max_gen_toks: 6, do_sample: false}
num_fewshot: 8
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
filter_list:
  - {name: strict-match, filter: [{function: regex, regex_pattern: "^.(.)"}, {function: take_first}]}
  - name: flexible-extract
    filter: [{function: regex, group_select: -1, regex_pattern: "([a-z.])"}, {function: take_first}]
metadata: {version: 3.0}
"""


def write_tasks(folder: Path) -> None:
    """Tasks with the harness's names and our questions: nothing is downloaded."""
    docs = [
        {"question": f"The {i}th colour is", "options": WORDS, "gold": i % 4, "letter": "si"[i % 2]}
        for i in range(QUESTIONS)
    ]
    (folder / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    (folder / "few.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs[:7]))
    for task, shots, file in (("hellaswag", 10, "docs"), ("mmlu_anatomy", 5, "docs"), ("mmlu_law", 5, "few")):
        where = COMMON.replace("FILE", str(folder / f"{file}.jsonl"))
        (folder / f"{task}.yaml").write_text(f"task: {task}\nnum_fewshot: {shots}\n{where}{CHOICE}")
    where = COMMON.replace("FILE", str(folder / "docs.jsonl"))
    (folder / "gsm8k.yaml").write_text(f"task: gsm8k\n{where}{WRITTEN}")
    for group, inside, version in (("mmlu", "[mmlu_stem, mmlu_law]", 2), ("mmlu_stem", "[mmlu_anatomy]", 2)):
        (folder / f"{group}.yaml").write_text(
            f"group: {group}\ntask: {inside}\nmetadata: {{version: {version}}}\n"
            "aggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
        )


def run_lm_eval(model: Path, tasks: Path, out: Path, names: list[str], **options: Any) -> None:
    """What the harness's command line does (`lm_eval/_cli/run.py`)."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    tracker = EvaluationTracker(output_path=str(out))
    found = simple_evaluate(
        model="hf", model_args={"pretrained": str(model), "dtype": "float32"}, tasks=names, device="cpu", batch_size=16,
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False), evaluation_tracker=tracker,
        bootstrap_iters=1000, **options,
    )  # fmt: skip
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for task in found["configs"]:
        tracker.save_results_samples(task_name=task, samples=samples[task])


@pytest.fixture(scope="module")
def lm_eval_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two runs of a random model: eight questions of HellaSwag with a chat template, then everything."""
    from dante.teachers.smoke import SmokeTeacher

    root = tmp_path_factory.mktemp("lm_eval")
    SmokeTeacher(seed=0, train_steps=1).make(root)
    (root / "tasks").mkdir()
    write_tasks(root / "tasks")
    with pytest.MonkeyPatch.context() as patch:
        import lm_eval.evaluator

        patch.setenv("HF_HOME", str(root / "hf"))
        patch.setattr(
            lm_eval.evaluator, "add_env_info", _versions
        )  # the machine in prose: seconds, and nobody reads it
        before = dict(os.environ)
        run_lm_eval(root / "model", root / "tasks", root / "out", ["hellaswag"], limit=8, apply_chat_template=True)
        run_lm_eval(root / "model", root / "tasks", root / "out", ["hellaswag", "mmlu", "gsm8k"])
        os.environ.update(before)
    return root / "out"


def _versions(storage: dict[str, Any]) -> None:
    import lm_eval

    storage["lm_eval_version"] = lm_eval.__version__


@pytest.fixture(scope="module")
def imported(lm_eval_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported")
    assert main(["import", str(lm_eval_out), "--model", "tiny", "--out", str(out)]) == 0
    return out


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows(content: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["task"], row["metric"]): row for row in content["rows"]}


def newest(folder: Path) -> Path:
    return max(folder.rglob("results_*.json"))


def ask(*paths: Path, model: str | None = None) -> dict[str, Any]:
    return evaluation(choose(collect(list(paths)), model, list(paths)))


# lm-evaluation-harness


def test_every_number_that_lm_eval_printed_is_a_row(imported: Path, lm_eval_out: Path) -> None:
    said = read(newest(lm_eval_out))["results"]
    found = rows(read(imported / "eval.json"))
    wanted = {
        ("hellaswag_10shot", "acc"): ("hellaswag", "acc", "none", 12),
        ("hellaswag_10shot", "acc_norm"): ("hellaswag", "acc_norm", "none", 12),
        ("mmlu_5shot", "acc"): ("mmlu", "acc", "none", 19),
        ("mmlu_5shot/subtask=mmlu_stem", "acc"): ("mmlu_stem", "acc", "none", 12),
        ("mmlu_5shot/subtask=mmlu_anatomy", "acc"): ("mmlu_anatomy", "acc", "none", 12),
        ("mmlu_5shot/subtask=mmlu_anatomy", "acc_norm"): ("mmlu_anatomy", "acc_norm", "none", 12),
        ("mmlu_5shot/subtask=mmlu_law", "acc"): ("mmlu_law", "acc", "none", 7),
        ("mmlu_5shot/subtask=mmlu_law", "acc_norm"): ("mmlu_law", "acc_norm", "none", 7),
        ("gsm8k_8shot", "exact_match_strict"): ("gsm8k", "exact_match", "strict-match", 12),
        ("gsm8k_8shot", "exact_match_flexible"): ("gsm8k", "exact_match", "flexible-extract", 12),
    }
    assert found.keys() == wanted.keys()
    for key, (task, metric, kind, n) in wanted.items():
        row = found[key]
        assert row["value"] == said[task][f"{metric},{kind}"]
        assert row["stderr"] == said[task][f"{metric}_stderr,{kind}"]
        assert (row["n"], row["said"]) == (n, f"{task} {metric},{kind}")
        assert (row["harness"], row["model"], row["seed"]) == ("lm-eval", "tiny", None)
        assert (row["split"], row["limit"], row["chat"]) == ("test", None, False)
    assert 0 < found["hellaswag_10shot", "acc"]["value"] < 1  # else nothing was told apart
    strict, flexible = (found["gsm8k_8shot", f"exact_match_{kind}"]["value"] for kind in ("strict", "flexible"))
    assert strict != flexible
    assert found["hellaswag_10shot", "acc"]["n_shot"] == 10
    assert found["gsm8k_8shot", "exact_match_strict"]["decoding"] == "greedy, at most 6 new tokens"
    assert found["gsm8k_8shot", "exact_match_strict"]["task_version"] == "3.0"


def test_items_give_the_rows_and_their_standard_errors(imported: Path, lm_eval_out: Path) -> None:
    found = rows(read(imported / "eval.json"))
    for task in ("hellaswag_10shot", "mmlu_5shot", "gsm8k_8shot"):
        items = lines(imported / task / "items.jsonl")
        assert len({item["id"] for item in items}) == len(items)
        for metric in items[0]["models"]["tiny"]:
            for part in ("", *{name for item in items for name in item["slices"]}):
                above, below = np.array(
                    [item["models"]["tiny"][metric] for item in items if not part or part in item["slices"]]
                ).T
                row = found[f"{task}/{part}" if part else task, metric]
                assert row["value"] == pytest.approx(above.sum() / below.sum())
                assert row["n"] == len(above)
                if task != "mmlu_5shot" or part:  # a group's is pooled over its tasks
                    assert row["stderr"] == pytest.approx(above.std(ddof=1) / math.sqrt(len(above)))
    first = lines(imported / "mmlu_5shot" / "items.jsonl")[0]
    sample = lines(next(lm_eval_out.rglob("samples_mmlu_anatomy_*.jsonl")))[0]
    assert (first["id"], first["text"]) == ("mmlu_anatomy/0", sample["prompt_hash"][:16])
    assert first["slices"] == ["subtask=mmlu_stem", "subtask=mmlu_anatomy"]


def test_suites_say_what_the_tasks_measure(imported: Path) -> None:
    content = read(imported / "eval.json")
    suites = content["suites"]
    assert list(suites["hellaswag_10shot"]["metrics"]) == ["acc_norm", "acc"]  # the main one first
    assert list(suites["gsm8k_8shot"]["metrics"]) == ["exact_match_strict", "exact_match_flexible"]
    assert suites["mmlu_5shot"]["slices"] == ["subtask=mmlu_stem", "subtask=mmlu_anatomy", "subtask=mmlu_law"]
    accuracy = suites["hellaswag_10shot"]["metrics"]["acc"]
    assert accuracy.keys() == {"label", "share", "better", "meaning", "decoding"}
    assert (accuracy["share"], accuracy["better"]) == (True, "higher")
    assert (content["precision"], content["pairs"], content["details"], content["commands"]) == ("fp32", [], {}, {})


def test_the_newest_run_counts_and_the_other_is_told(imported: Path) -> None:
    (note,) = (note for note in read(imported / "eval.json")["notes"] if "left out" in note)
    assert "hellaswag_10shot" in note
    assert "limit 8, now none" in note
    assert "chat True, now none" in note


def test_a_limited_run_in_a_chat_says_so(lm_eval_out: Path) -> None:
    oldest = min(lm_eval_out.rglob("results_*.json"))
    row = rows(ask(oldest))["hellaswag_10shot", "acc"]
    assert (row["limit"], row["chat"], row["n"]) == (8, True, 8)


def version_0_4_5(lm_eval_out: Path, folder: Path) -> Path:
    """The same run as version 0.4.5 wrote it: fewer keys, arguments in one word, samples without their filter."""
    now = newest(lm_eval_out)
    content = read(now)
    for found in content["results"].values():
        for key in ("name", "sample_len", "sample_count"):
            found.pop(key, None)
    content["config"]["model_args"] = f"pretrained={content.pop('model_name')},dtype=float32"
    content["lm_eval_version"] = "0.4.5"
    del content["config"]["model_dtype"], content["higher_is_better"]
    folder.mkdir()
    (folder / now.name).write_text(json.dumps(content))
    date = now.stem.removeprefix("results_")
    for path in now.parent.glob(f"samples_*_{date}.jsonl"):
        kept = [{k: v for k, v in line.items() if k not in ("filter", "metrics")} for line in lines(path)]
        (folder / path.name).write_text("".join(json.dumps(line) + "\n" for line in kept))
    return folder


def test_version_0_4_5_gives_the_same(imported: Path, lm_eval_out: Path, tmp_path: Path) -> None:
    folder = version_0_4_5(lm_eval_out, tmp_path / "old")
    old, new = ask(folder, model="tiny"), read(imported / "eval.json")
    assert old["rows"] == [row | {"harness_version": "0.4.5"} for row in new["rows"]]  # a group's n is its tasks' sum
    main(["import", str(folder), "--model", "tiny", "--out", str(tmp_path / "out")])
    for task in ("gsm8k_8shot", "mmlu_5shot"):
        assert lines(tmp_path / "out" / task / "items.jsonl") == lines(imported / task / "items.jsonl")


def test_a_limit_that_left_nothing_out_is_none_and_n_may_be_unknown(lm_eval_out: Path, tmp_path: Path) -> None:
    path = newest(version_0_4_5(lm_eval_out, tmp_path / "old"))
    content = read(path)
    content["config"]["limit"] = 12
    path.write_text(json.dumps(content))
    assert {row["limit"] for row in ask(path)["rows"]} == {None}
    del content["n-samples"]
    path.write_text(json.dumps(content))
    found = ask(path)
    assert {(row["limit"], row["n"]) for row in found["rows"]} == {(12, None)}
    assert f"mmlu: {path.name} does not say of how many questions." in found["notes"]


def test_samples_of_another_run_are_no_items(lm_eval_out: Path, tmp_path: Path) -> None:
    folder = version_0_4_5(lm_eval_out, tmp_path / "old")
    (path,) = folder.glob("samples_hellaswag_*.jsonl")
    path.write_text("".join(json.dumps(line | {"acc": 1.0 - line["acc"]}) + "\n" for line in lines(path)))
    chosen = choose(collect([folder]), "tiny", [folder])
    (result,) = (result for name, result in chosen.results if name.task == "hellaswag_10shot")
    assert {metric for item in result.items for metric in item.values} == {"acc_norm"}
    assert any("hellaswag acc,none: no mean of its samples" in note for note in result.notes)


# names


def result(task: str, n_shot: int | None, version: str = "1.0", chat: bool | None = False, **other: Any) -> Result:
    score = Score("acc", 0.5, None, 4)
    given = {
        "path": Path("r.json"),
        "when": 0.0,
        "model": "m",
        "harness": READERS[0].harness,
        "harness_version": "0.4.13",
    }
    return Result(task=task, n_shot=n_shot, task_version=version, chat=chat, **(given | {"scores": [score]} | other))


@pytest.mark.parametrize(
    ("task", "n_shot", "version", "name"),
    [
        ("hellaswag", 10, "1.0", "hellaswag_10shot"),
        ("hellaswag", 5, "1.0", "hellaswag_5shot"),
        ("arc_challenge", 25, "1.0", "arc_challenge_25shot"),
        ("piqa", 5, "1.0", "piqa_5shot"),
        ("mmlu", 5, "1.0", "mmlu_5shot"),
        ("mmlu_pro", 5, "3.1", "mmlu_pro_5shot"),
        ("mmlu_pro", 5, "2.0", "mmlu_pro_5shot"),
        ("mmlu_pro", 5, "1.0", "mmlu_pro_5shot_v1"),
        ("mmlu_pro", 5, "", "mmlu_pro_5shot_unknown_version"),
        ("gsm8k_cot", 8, "3.0", "gsm8k_cot_8shot"),
        ("gsm8k", 8, "3.0", "gsm8k_8shot"),
        ("gsm8k", 0, "3.0", "gsm8k_0shot"),
        ("humaneval", 0, "1.0", "humaneval"),
        ("humaneval_instruct", 0, "4.0", "humaneval_instruct"),
        ("mbpp", 3, "1.0", "mbpp_3shot"),
        ("mbpp", None, "", "mbpp"),
        ("humanevalplus", None, "", "humaneval_plus"),
        ("mbppplus", None, "", "mbpp_plus"),
        ("my task/it", 2, "", "my_task_it_2shot"),
        ("arc_easy", None, "", "arc_easy"),
        ("mmlu", None, "", "mmlu"),
    ],
)
def test_canonical_names(task: str, n_shot: int | None, version: str, name: str) -> None:
    assert name_of(result(task, n_shot, version)).task == name


def test_humaneval_behind_a_chat_template_is_another_task() -> None:
    assert name_of(result("humaneval", 0, chat=True)).task == "humaneval_chat"


# bigcode-evaluation-harness


def bigcode(folder: Path, scores: dict[str, Any], programs: list[list[str]] | None, **config: Any) -> Path:
    """Its results and programs; the keys of its config as of version 0.1 (`main.py`: `vars(args)`)."""
    folder.mkdir(exist_ok=True)
    settings = {
        "model": "my/coder", "do_sample": True, "temperature": 0.2, "top_p": 0.95, "top_k": 0, "n_samples": 1,
        "seed": 0, "tasks": "humaneval", "limit": None, "precision": "bf16",
        "save_generations_path": "generations.json",
    }  # fmt: skip
    (folder / "evaluation_results.json").write_text(json.dumps(scores | {"config": settings | config}))
    if programs is not None:
        (folder / "generations_humaneval.json").write_text(json.dumps(programs))
    return folder


def test_bigcode_with_its_programs(tmp_path: Path) -> None:
    programs = [["def f(): ..."]] * 164
    folder = bigcode(tmp_path / "b", {"humaneval": {"pass@1": 11 / 164}}, programs, do_sample=False)
    content = ask(folder)
    (row,) = content["rows"]
    p = 11 / 164
    assert (row["task"], row["metric"], row["value"], row["n"]) == ("humaneval", "pass_at_1", p, 164)
    assert row["stderr"] == pytest.approx(math.sqrt(p * (1 - p) / 163))
    assert (row["model"], row["decoding"], row["n_shot"], row["split"]) == ("my/coder", "greedy", 0, "test")
    assert content["precision"] == "bf16"


def test_bigcode_without_programs_or_with_those_of_another_run(tmp_path: Path) -> None:
    scores = {"humaneval": {"pass@1": 0.0671, "pass@10": 0.2}, "mbpp": {"pass@1": 0.426}}
    alone = ask(bigcode(tmp_path / "a", scores, None, n_samples=20))
    assert [(row["task"], row["metric"], row["value"], row["n"], row["stderr"]) for row in alone["rows"]] == [
        ("humaneval", "pass_at_1", 0.0671, None, None),
        ("humaneval", "pass_at_10", 0.2, None, None),
        ("mbpp", "pass_at_1", 0.426, None, None),
    ]
    assert alone["rows"][0]["decoding"] == "temperature 0.2, top-p 0.95, seed 0, 20 answers per question"
    assert sum("does not say of how many problems" in note for note in alone["notes"]) == 2
    other = ask(bigcode(tmp_path / "o", {"humaneval": {"pass@1": 0.5}}, [["x"]] * 3))
    assert other["rows"][0]["n"] is None
    assert any("of another run" in note for note in other["notes"])


def test_percentages_become_shares_for_the_whole_file(tmp_path: Path) -> None:
    content = ask(bigcode(tmp_path / "p", {"humaneval": {"pass@1": 0.61}, "mbpp": {"pass@1": 42.6}}, None))
    assert [row["value"] for row in content["rows"]] == pytest.approx([0.0061, 0.426])
    assert any("percentages" in note for note in content["notes"])
    with pytest.raises(DanteError, match="humaneval pass@1 is 671"):
        ask(bigcode(tmp_path / "q", {"humaneval": {"pass@1": 671.0}}, None))


# evalplus


def test_pass_at_k_is_the_closed_form() -> None:
    assert pass_at_k(4, 1, 2) == 0.5  # 1 − C(3,2)/C(4,2) = 1 − 3/6
    assert pass_at_k(4, 1, 1) == 0.25
    assert pass_at_k(5, 2, 3) == pytest.approx(0.9)  # 1 − C(3,3)/C(5,3) = 1 − 1/10
    assert (pass_at_k(3, 0, 3), pass_at_k(3, 1, 3), pass_at_k(200, 200, 100)) == (0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="pass@3 of 1 right"):
        pass_at_k(2, 1, 3)


def evalplus(path: Path, problems: dict[str, list[tuple[str, str | None]]], **other: Any) -> Path:
    programs = {
        problem: [
            {"task_id": problem, "solution": "…", "base_status": base, "plus_status": plus, "base_fail_tests": [],
             "plus_fail_tests": []}
            for base, plus in found
        ]
        for problem, found in problems.items()
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"date": "2025-03-14 12:00", "hash": "fe585eb4df8c88d844eeb463ea4d0302", "eval": programs} | other)
    )
    return path


PROBLEMS: dict[str, list[tuple[str, str | None]]] = {
    "HumanEval/0": [("pass", "pass"), ("pass", "fail"), ("fail", "pass"), ("timeout", "timeout")],
    "HumanEval/1": [("pass", "pass")] * 4,
    "HumanEval/2": [("fail", "fail")] * 4,
}


def test_evalplus_base_and_plus(tmp_path: Path) -> None:
    said = {"base": {"pass@1": 0.5, "pass@2": 11 / 18}, "plus": {"pass@1": 5 / 12, "pass@2": 0.9}}
    path = evalplus(tmp_path / "my--model_hf_temp_0.8_eval_results.json", PROBLEMS, pass_at_k=said)
    content = ask(path)
    found = rows(content)
    # Problem 0 passes 2 of 4 on the base tests and 1 of 4 on all of them: a failed base test is never made good.
    assert {key: row["value"] for key, row in found.items()} == pytest.approx(
        {
            ("humaneval", "pass_at_1"): (0.5 + 1 + 0) / 3,
            ("humaneval", "pass_at_2"): (5 / 6 + 1 + 0) / 3,
            ("humaneval_plus", "pass_at_1"): (0.25 + 1 + 0) / 3,
            ("humaneval_plus", "pass_at_2"): (0.5 + 1 + 0) / 3,
        }
    )
    row = found["humaneval", "pass_at_1"]
    assert row["stderr"] == pytest.approx(0.5 / math.sqrt(3))  # of 0.5, 1, 0
    assert (row["n"], row["model"], row["harness"]) == (3, "my/model", "evalplus")
    assert row["decoding"] == "temperature 0.8, 4 answers per question"
    assert [note for note in content["notes"] if "says pass@2 = 0.9000 of humaneval_plus, its programs 0.5000" in note]
    main(["import", str(path), "--out", str(tmp_path / "out")])
    items = lines(tmp_path / "out" / "humaneval_plus" / "items.jsonl")
    assert items[0]["id"] == "HumanEval/0"
    assert items[0]["models"] == {"my/model": {"pass_at_1": [0.25, 1.0], "pass_at_2": [0.5, 1.0]}}


def test_evalplus_base_only_and_its_first_form(tmp_path: Path) -> None:
    base_only = {"Mbpp/2": [("pass", None)], "Mbpp/3": [("fail", None)]}
    assert rows(ask(evalplus(tmp_path / "a_eval_results.json", base_only), model="m")).keys() == {("mbpp", "pass_at_1")}
    first = {
        "HumanEval/0": {"nfiles": 2, "base": [["pass", [True]], ["pass", []]], "plus": [["fail", []], ["pass", []]]}
    }
    path = tmp_path / "eval_results.json"
    path.write_text(json.dumps({"date": "2023-06-01 10:00", "hash": "0", "eval": first}))
    found = rows(ask(path, model="m"))
    assert (found["humaneval", "pass_at_1"]["value"], found["humaneval_plus", "pass_at_1"]["value"]) == (1.0, 0.5)
    assert found["humaneval", "pass_at_1"]["stderr"] is None  # of a single problem


# LiveCodeBench


def livecodebench(folder: Path) -> Path:
    graded = [("easy", "2024-08-03", [True, True, False, True]), ("hard", "2024-12-28", [False] * 4),
              ("easy", "2025-01-04", [True, False, False, False])]  # fmt: skip
    content = [
        {"question_title": f"q{i}", "question_content": f"Do {i}.", "platform": "atcoder", "question_id": f"abc{i}",
         "contest_id": "abc", "contest_date": f"{day}T00:00:00", "starter_code": "", "difficulty": level,
         "output_list": [""] * 4, "code_list": [""] * 4, "graded_list": passed, "pass@1": passed.count(True) / 4,
         "metadata": []}
        for i, (level, day, passed) in enumerate(graded)
    ]  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "Scenario.codegeneration_4_0.2_eval_all.json").write_text(json.dumps(content))
    (folder / "Scenario.codegeneration_4_0.2.json").write_text(json.dumps([{"question_id": "abc0", "code_list": []}]))
    return folder


def test_livecodebench_with_difficulty_and_window(tmp_path: Path) -> None:
    folder = livecodebench(tmp_path / "output" / "MyModel")
    content = ask(folder)
    found = {key: (row["value"], row["n"]) for key, row in rows(content).items()}
    assert found == {
        ("livecodebench", "pass_at_1"): (pytest.approx((0.75 + 0 + 0.25) / 3), 3),
        ("livecodebench/difficulty=easy", "pass_at_1"): (pytest.approx(0.5), 2),
        ("livecodebench/difficulty=hard", "pass_at_1"): (0.0, 1),
    }
    assert content["rows"][0]["task_version"] == "contests 2024-08-03 to 2025-01-04"
    assert content["rows"][0]["decoding"] == "temperature 0.2, 4 answers per question"
    assert content["rows"][0]["model"] == "MyModel"
    assert content["suites"]["livecodebench"]["slices"] == ["difficulty=easy", "difficulty=hard"]


# the card


def test_model_index_goes_through_the_hubs_own_reader_and_back(imported: Path, tmp_path: Path) -> None:
    text = (imported / "model-index.yaml").read_text()
    card = tmp_path / "README.md"
    card.write_text(f"---\nlicense: apache-2.0\n{text}---\n\n# tiny\n")
    front = metadata_load(card)
    assert front is not None
    index = front["model-index"]
    assert index == yaml.safe_load(text)["model-index"]
    name, results = model_index_to_eval_results(index)
    assert name == "tiny"
    assert eval_results_to_model_index(name, results) == index
    whole = {(r["task"], r["metric"]): r["value"] for r in read(imported / "eval.json")["rows"] if "/" not in r["task"]}
    assert {(r.dataset_type, r.metric_type): r.metric_value for r in results} == whole
    assert {r.verified for r in results} == {False}
    assert results[0].source_name is not None
    assert results[0].source_name.startswith("lm-evaluation-harness 0.4.")
    assert yaml.safe_load(ModelCardData(**front).to_yaml())["model-index"] == index


# what a user may do wrong


def test_several_models_are_named_and_one_can_be_chosen(tmp_path: Path) -> None:
    one = bigcode(tmp_path / "one", {"humaneval": {"pass@1": 0.5}}, None, model="a/one")
    two = bigcode(tmp_path / "two", {"humaneval": {"pass@1": 0.25}}, None, model="b/two")
    with pytest.raises(DanteError, match="results of 2 models: a/one, b/two") as caught:
        ask(one, two)
    words = caught.value.fix.removeprefix("python -m dante.evaluate ").split()
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert [row["value"] for row in read(tmp_path / "out" / "eval.json")["rows"]] == [0.5]
    assert ask(one, two, model="b/two")["rows"][0]["value"] == 0.25
    with pytest.raises(DanteError, match="c cannot stand for both a/one and b/two"):
        ask(one, two, model="c")


def test_a_file_without_a_model_needs_its_name_or_takes_the_only_one(tmp_path: Path) -> None:
    path = evalplus(tmp_path / "e" / "samples_eval_results.json", PROBLEMS)
    with pytest.raises(DanteError, match="no result file names its model"):
        ask(path)
    content = ask(path, bigcode(tmp_path / "b", {"mbpp": {"pass@1": 0.5}}, None))
    assert {row["model"] for row in content["rows"]} == {"my/coder"}
    assert "samples_eval_results.json names no model: it is taken as my/coder's." in content["notes"]


def test_two_harnesses_on_one_task_stay_two(tmp_path: Path) -> None:
    one = bigcode(tmp_path / "b", {"humaneval": {"pass@1": 0.5}}, None)
    content = ask(one, evalplus(tmp_path / "e" / "samples_eval_results.json", PROBLEMS), model="m")
    assert list(content["suites"]) == ["humaneval", "humaneval_evalplus", "humaneval_plus"]


def test_a_file_in_two_of_the_paths_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bigcode(tmp_path / "b", {"humaneval": {"pass@1": 0.5}}, None)
    monkeypatch.chdir(folder)
    content = ask(folder, Path("evaluation_results.json"))
    assert len(content["rows"]) == 1
    assert not any("left out" in note for note in content["notes"])


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("results_2025.json", '{"results": {"hellaswag": {"acc,no', "results_2025.json is not whole"),
        ("scores.json", '{"score": 1}', "a result of no harness that is known here"),
        ("samples_x_2025.jsonl", '{"doc_id": 0}\n{"doc_id": 1}\n', "a result of no harness that is known here"),
        ("r.json", '{"results": {"piqa": {"acc,none": 0.5}}, "configs": 3}', "lacks what it writes"),
        ("x_eval_all.json", '[{"question_id": 1, "graded_list": []}]', "1 problems have no graded program"),
        (
            "x_eval_results.json",
            '{"eval": {"HumanEval/0": [{"base_status": "pass"}], "HumanEval/1": []}}',
            "no program",
        ),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, what: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DanteError, match=what) as caught:
        ask(tmp_path / name)
    assert caught.value.fix
    assert str(tmp_path / name) in caught.value.where


def test_a_folder_without_results_and_a_path_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DanteError, match="has no result file in it") as caught:
        ask(tmp_path)
    assert all(reader.harness.title in caught.value.allowed for reader in READERS)
    with pytest.raises(DanteError, match="does not exist"):
        ask(tmp_path / "nowhere")


def test_the_fix_for_a_half_written_file_works(tmp_path: Path) -> None:
    folder = bigcode(tmp_path / "a folder", {"humaneval": {"pass@1": 0.5}}, None)
    (folder / "results_2025.json").write_text('{"results": ')
    with pytest.raises(DanteError) as caught:
        ask(folder)
    assert os.system(caught.value.fix[caught.value.fix.index("mv ") :]) == 0
    assert ask(folder)["rows"][0]["value"] == 0.5


def test_an_error_is_one_paragraph_and_a_finished_step_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bigcode(tmp_path / "b", {"humaneval": {"pass@1": 0.5}}, None)
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "step.json").write_text("{}")
    assert main(["import", str(folder), "--out", str(tmp_path / "step")]) == 2
    assert "finished step of a run" in capsys.readouterr().err
    assert COMMAND == "python -m dante.evaluate import"


def test_items_of_an_earlier_import_do_not_stay(tmp_path: Path) -> None:
    path, out = evalplus(tmp_path / "e_eval_results.json", PROBLEMS), tmp_path / "out"
    assert main(["import", str(path), "--model", "m", "--out", str(out)]) == 0
    assert (out / "humaneval" / "items.jsonl").is_file()
    folder = bigcode(tmp_path / "b", {"humaneval": {"pass@1": 0.5}}, None)
    assert main(["import", str(folder), "--out", str(out)]) == 0
    assert not (out / "humaneval" / "items.jsonl").exists()


def test_the_command_prints_rows_and_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["import", str(livecodebench(tmp_path / "output" / "MyModel")), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for word in ("livecodebench", "33.33%", "difficulty=hard", "eval.json", "items.jsonl", "model-index.yaml"):
        assert word in printed
