"""Evaluations with benchmarks as an eval step leaves them: small files, where the scoreboard looks for them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LM_EVAL = {"harness": "lm-eval", "harness_version": "0.4.13", "chat": False, "split": "test", "said": ""}
# Task → what its rows say, and the main metric.
TASKS: dict[str, tuple[dict[str, Any], str]] = {
    "hellaswag_10shot": ({"task_version": "1.0", "n_shot": 10, "split": "validation"}, "acc_norm"),
    "arc_challenge_25shot": ({"task_version": "1.0", "n_shot": 25}, "acc_norm"),
    "mmlu_5shot": ({"task_version": "2", "n_shot": 5}, "acc"),
    "mmlu_pro_5shot": ({"task_version": "3.1", "n_shot": 5, "decoding": "greedy, 2,048 tokens"}, "exact_match"),
    "mmlu_pro_5shot_v1": ({"task_version": "1.0", "n_shot": 5, "decoding": "greedy, 256 tokens"}, "exact_match"),
    "gsm8k_cot_8shot": ({"task_version": "3.0", "n_shot": 8, "decoding": "greedy"}, "exact_match"),
    "humaneval": ({"task_version": "1.0", "n_shot": 0, "decoding": "greedy", "harness": "dante"}, "pass@1"),
}
# Model → task → right (1) or wrong (0) per item.
Answers = Mapping[str, Mapping[str, Sequence[int]]]


def right(share: float, items: int, seed: int) -> list[int]:
    """As many right answers as the share asks for, in an order of the seed's."""
    answers = np.zeros(items, dtype=int)
    answers[: round(share * items)] = 1
    return [int(answer) for answer in np.random.default_rng(seed).permutation(answers)]


def evaluation(folder: Path, answers: Answers, changes: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Write `eval.json` and the items.

    Args:
        folder: to write into.
        answers: of every model.
        changes: task → fields of its rows that are other; `start`: number of its first item; `items`: False for none.
    """
    # What is no benchmark has no task version, and is not on the board.
    rows: list[dict[str, Any]] = [{"model": "student", "task": "heldout", "metric": "bits_per_byte", "value": 1.0}]
    suites: dict[str, Any] = {"heldout": {"metrics": {"bits_per_byte": {"label": "bits per byte"}}}}
    for task in dict.fromkeys(task for by_task in answers.values() for task in by_task):
        own, metric = TASKS[task]
        change = dict((changes or {}).get(task, {}))
        start, kept = change.pop("start", 0), change.pop("items", True)
        said = {"label": metric, "share": True, "better": "higher", "meaning": "", "decoding": ""}
        suites[task] = {"heading": task, "counts": "questions", "metrics": {metric: said, "other": said}}
        lines: dict[int, dict[str, Any]] = {}
        for model, by_task in answers.items():
            values = np.array(by_task.get(task, []), dtype=float)
            if not len(values):
                continue
            rows.append({
                "model": model, "task": task, "metric": metric, "value": float(values.mean()),
                "stderr": float(values.std(ddof=1) / np.sqrt(len(values))), "n": len(values), "limit": None, "seed": 1,
                "decoding": "log-likelihood", **LM_EVAL, **own, **change,
            })  # fmt: skip
            for number, value in enumerate(values, start=start):
                line = {"id": f"q{number}", "text": f"t{number}", "slices": [], "models": {}}
                lines.setdefault(number, line)["models"][model] = {metric: [value, 1.0], "other": [1.0, 1.0]}
        if kept:
            (folder / task).mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(line) + "\n" for line in lines.values())
            (folder / task / "items.jsonl").write_text(text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eval.json").write_text(json.dumps({"rows": rows, "pairs": [], "suites": suites, "notes": []}))
    return folder


def run(folder: Path, answers: Answers, changes: Mapping[str, Mapping[str, Any]] | None = None,
        fits: Mapping[str, Mapping[str, Any]] | None = None) -> Path:  # fmt: skip
    """Write a run: its evaluation below `eval`, and the summaries of its fits."""
    evaluation(folder / "eval", answers, changes)
    for name, summary in (fits or {}).items():
        (folder / name).mkdir()
        (folder / name / "summary.json").write_text(json.dumps(summary))
    return folder


def summary(flops: float, generation: float = 0.0, device: str = "CPU") -> dict[str, Any]:
    """A fit's summary."""
    parts = {"generation": {"flops": generation}, "scoring": {"flops": 0.0}}
    return {"device": device, "device_hours": 2.0, "flops": flops, "compute": parts}
