"""lm-evaluation-harness 0.4: `results_DATE.json`, with `samples_TASK_DATE.jsonl` beside it where they were kept.

A group such as `mmlu` is one task, and what it consists of are its slices. Its n is the sum of theirs. What a file does
not say is left open, and a note says so; version 0.4.5 says less than later ones.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from dante.evaluate.foreign.readers.lm_eval_samples import items_of
from dante.evaluate.foreign.readers.lm_eval_setup import (
    chat,
    decoding,
    limit,
    model,
    precision,
    shots,
    split,
    task_version,
)
from dante.evaluate.foreign.readers.lm_eval_tasks import below, leaves, metric_names, roots
from dante.evaluate.foreign.result import Harness, Result, Score
from dante.evaluate.harness.decoding import number

_BETTER = {True: "higher", False: "lower", None: ""}


class LmEval:
    """Reads lm-evaluation-harness."""

    harness = Harness(
        "lm-eval", "lm-evaluation-harness", "https://github.com/EleutherAI/lm-evaluation-harness",
        'results_DATE.json with "results" and "configs"',
    )  # fmt: skip

    def claims(self, path: Path, content: Any) -> bool:
        if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
            return False
        return {"configs", "versions"} & content.keys() != set()

    def read(self, path: Path, content: Any) -> list[Result]:
        return [self._result(path, content, task) for task in roots(content)]

    def _result(self, path: Path, content: Mapping[str, Any], task: str) -> Result:
        parts = [part for part in below(content, task) if metric_names(content, part)]
        scores = _scores(content, task, "")
        scores += [score for part in parts for score in _scores(content, part, _slice(part))]
        slices = {_slice(part): leaves(content, part) for part in parts}
        items, notes = items_of(path, content, task, [score for score in scores if not score.part], slices)
        if any(score.n is None for score in scores):
            notes.append(f"{task}: {path.name} does not say of how many questions.")
        return Result(
            path=path,
            when=_when(path, content),
            model=model(content),
            task=task,
            n_shot=shots(content, task),
            harness=self.harness,
            harness_version=str(content.get("lm_eval_version") or content.get("git_hash") or ""),
            scores=scores,
            items=items,
            slices=list(slices),
            decoding=decoding(content, task),
            task_version=task_version(content, task),
            split=split(content, task),
            limit=limit(content, task),
            chat=chat(content),
            precision=precision(content),
            notes=notes,
        )


def _slice(part: str) -> str:
    return f"subtask={part}"


def _scores(content: Mapping[str, Any], task: str, part: str) -> list[Score]:
    found = content["results"][task]
    scores = []
    for key, name in metric_names(content, task).items():
        metric, _, kind = key.partition(",")
        better = content.get("higher_is_better", {}).get(task, {}).get(metric, True)
        stderr = number(found.get(f"{metric}_stderr,{kind}"))
        value = float(found[key])
        scores.append(Score(name, value, stderr, _n(content, task, key), part, _BETTER[better], f"{task} {key}"))
    return scores


def _n(content: Mapping[str, Any], task: str, key: str) -> int | None:
    """Questions behind a number: of a group, the sum over its tasks."""
    stated = content["results"][task].get("sample_count", {}).get(key)
    if stated is not None:
        return int(stated)
    counts = [content.get("n-samples", {}).get(leaf, {}).get("effective") for leaf in leaves(content, task)]
    return None if None in counts else sum(counts)


def _when(path: Path, content: Mapping[str, Any]) -> float:
    """When the evaluation began; else the date in the file's name."""
    date = number(content.get("date"))
    if date is not None:
        return date
    try:
        day, _, time = path.stem.rpartition("_")[2].partition("T")
        return datetime.fromisoformat(f"{day}T{time.replace('-', ':')}").timestamp()
    except ValueError:
        return path.stat().st_mtime
