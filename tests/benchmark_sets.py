"""Sets in the form of the published ones, with items of our own: nothing of a published set is in this repository."""

from pathlib import Path
from typing import Any

import lm_eval.tasks
import yaml

from dante.evaluate.benchmarks.task import Benchmark
from dante.evaluate.harness.definitions import Definitions, hub_set
from dante.system.jsonl import write_lines

Row = dict[str, Any]
THINGS = ("kettle", "ladder", "bucket", "lantern", "hammer", "basket", "needle", "saddle", "anchor", "candle")
CATEGORIES = (
    "biology", "business", "chemistry", "computer science", "economics", "engineering", "health", "history", "law",
    "math", "other", "philosophy", "physics", "psychology",
)  # fmt: skip


def hellaswag(count: int) -> list[Row]:
    return [
        {
            "ind": number,
            "activity_label": f"Using a {thing}",
            "ctx_a": f"[header] How to use a {thing} [title] Look at it.",
            "ctx_b": f"somebody number {number}",
            "endings": [f"takes the {thing} up.", f"paints it in  {number} colours.", "sings.", f"eats the {thing}."],
            "label": str(number % 4),
        }
        for number, thing in _things(count)
    ]


def arc(count: int, first: int = 0) -> list[Row]:
    return [
        {
            "id": f"own-{number}",
            "question": f"Which of these is heavier than {number} feathers, a {thing} or air?",
            "choices": {"text": [f"The {thing}", "Air", "Neither", "Both of them"], "label": list("ABCD")},
            "answerKey": "ABCD"[number % 4],
        }
        for number, thing in _things(count, first)
    ]


def piqa(count: int) -> list[Row]:
    return [
        {
            "goal": f"clean {thing} {number}",
            "sol1": f"With water, {number} times",
            "sol2": "With sand",
            "label": number % 2,
        }
        for number, thing in _things(count)
    ]


def gsm8k(count: int, first: int = 0) -> list[Row]:
    return [
        {
            "question": f"Ada has {number} {thing}s and buys 2 more. How many has she?",
            "answer": f"She has {number}+2=<<{number}+2={number + 2}>>{number + 2}.\n#### {number + 2}",
        }
        for number, thing in _things(count, first)
    ]


def mmlu(count: int, subject: str) -> list[Row]:
    return [
        {
            "question": f" What is said of {thing} {number} in {subject}? ",
            "choices": [f"{number} things", "Nothing", "All of it", f"The {thing}"],
            "answer": number % 4,
            "subject": subject,
        }
        for number, thing in _things(count)
    ]


def mmlu_pro(count: int, first: int = 0) -> list[Row]:
    return [
        {
            "question_id": number,
            "category": category,
            "question": f"What is said of {thing} {number} in {category}?",
            "options": [f"option {letter} of {number} " for letter in "abcdefghij"],
            "answer": "ABCDEFGHIJ"[number % 10],
            "answer_index": number % 10,
            "cot_content": f"A: Let's think step by step. It is so. The answer is ({'ABCDEFGHIJ'[number % 10]}).",
        }
        for category in CATEGORIES
        for number, thing in _things(count, first)
    ]


def aime(count: int, problem: str, answer: str) -> list[Row]:
    return [{problem: f"What is {number} + {number + 1}?", answer: 2 * number + 1} for number in range(count)]


def gpqa(count: int) -> list[Row]:
    wrong = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    return [
        {"Question": f"q{n}", "Correct Answer": f"right{n}"} | {key: f"wrong{n}.{key[-1]}" for key in wrong}
        for n in range(count)
    ]


def humaneval(count: int) -> list[Row]:
    return [
        {
            "task_id": f"Own/{number}",
            "prompt": f'import math\n\n\ndef plus_{number}(x: int) -> int:\n    """Give x + {number}."""\n',
            "canonical_solution": f"    return x + {number}\n",
            "test": f"def check(candidate):\n    assert candidate(1) == {number + 1}\n",
            "entry_point": f"plus_{number}",
        }
        for number in range(count)
    ]


def mbpp(count: int) -> list[Row]:
    return [
        {
            "task_id": 11 + number,
            "text": f"Write a function to multiply by {number}.",
            "code": f"def times_{number}(x):\n    return x * {number}",
            "test_list": [f"assert times_{number}({x}) == {x * number}" for x in (1, 2, 3)],
            "test_setup_code": "",
            "challenge_test_list": [],
        }
        for number in range(count)
    ]


def write_sets(folder: Path, items: int = 3) -> Path:
    """A folder for `data.folder` with `items` items to be asked in every set, and enough for worked examples."""
    subjects = [
        Definitions("mmlu/default").read(leaf)["dataset_name"] for leaf in Definitions("mmlu/default").leaves("mmlu")
    ]
    sets = {
        "Rowan/hellaswag": {"train": hellaswag(12), "validation": hellaswag(items)},
        "allenai/ai2_arc/ARC-Challenge": {"train": arc(30, 100), "validation": arc(4, 200), "test": arc(items)},
        "baber/piqa": {"train": piqa(12), "validation": piqa(items)},
        "openai/gsm8k/main": {"train": gsm8k(12, 50), "test": gsm8k(items)},
        "TIGER-Lab/MMLU-Pro": {"validation": mmlu_pro(5, 50), "test": mmlu_pro(items)},
        "Maxwell-Jia/AIME_2024": {"train": aime(items, "Problem", "Answer")},
        "math-ai/aime25": {"test": aime(items, "problem", "answer")},
        "Idavidrein/gpqa/gpqa_diamond": {"train": gpqa(items)},
        "openai/openai_humaneval": {"test": humaneval(items)},
        "evalplus/humanevalplus": {"test": humaneval(items)},
        "google-research-datasets/mbpp/full": {"test": mbpp(items)},
    } | {f"cais/mmlu/{subject}": {"dev": mmlu(5, subject), "test": mmlu(items, subject)} for subject in subjects}
    for name, splits in sets.items():
        (folder / name).mkdir(parents=True)
        for split, rows in splits.items():
            write_lines(folder / name / f"{split}.jsonl", rows)
    return folder


def _things(count: int, first: int = 0) -> list[tuple[int, str]]:
    return [(number, THINGS[number % len(THINGS)]) for number in range(first, first + count)]


def own_task(folder: Path, suite: Benchmark, leaf: str, sets: Path, name: str) -> Path:
    """A task for the harness itself, as its users write one: its own definition included, items from files.

    Args:
        folder: to write the YAML, and what `datasets` makes of the items, into.
        suite: says where the definition lies, and how many worked examples there are.
        leaf: the harness's name of the task.
        sets: written by `write_sets`.
        name: of the new task.
    """
    place = Path(lm_eval.tasks.__file__).parent / str(suite.definitions.folder)
    original = next(
        path
        for path in sorted(place.glob("*.yaml"))
        if f"task: {leaf}" in path.read_text(encoding="utf-8").replace('"', "").splitlines()
    )
    files = {path.stem: str(path) for path in (sets / hub_set(suite.definitions.read(leaf))).glob("*.jsonl")}
    own = {"include": str(original), "task": name, "dataset_path": "json", "dataset_name": None}
    own |= {"dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")}, "num_fewshot": suite.shots}
    written = folder / f"{name}.yaml"
    written.write_text(yaml.safe_dump(own), encoding="utf-8")
    return written
