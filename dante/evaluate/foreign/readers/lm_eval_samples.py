"""lm-evaluation-harness: items out of `samples_TASK_DATE.jsonl`, where they give the number that the harness printed.

There is one line per question and filter. Before version 0.4.6 a line does not name its filter: then the lines of a
question come in the order of the task's filters.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.evaluate.foreign.readers.lm_eval_tasks import leaves, metric_names
from dante.evaluate.foreign.result import Score
from dante.evaluate.harness.decoding import number
from dante.statistics.item import Item
from dante.system.jsonl import read_lines


def items_of(
    path: Path, content: Mapping[str, Any], task: str, scores: Sequence[Score], slices: Mapping[str, Sequence[str]]
) -> tuple[list[Item], list[str]]:
    """The items of a task, those of all its tasks if it is a group, and what a reader has to know of them.

    Args:
        path: of the result file.
        content: of it.
        task: by the harness's name.
        scores: of the whole task: a metric whose items give another number is left out of the items.
        slices: slice → the tasks in it.

    Raises:
        DanteError: a file of samples is not whole.
    """
    items: list[Item] = []
    for leaf in leaves(content, task):
        found = _samples(path, content, leaf)
        if not found:
            return [], [f"{task}: no samples of {leaf} lie beside {path.name}, so there are no items."]
        items += _items(leaf, found, content, tuple(name for name, inside in slices.items() if leaf in inside))
    right = [score.metric for score in scores if _gives(items, score)]
    wrong = [score.said for score in scores if score.metric not in right]
    kept = [
        Item(item.id, item.text, {metric: item.values[metric] for metric in right}, item.slices)
        for item in items
        if right
    ]
    return kept, [f"{said}: no mean of its samples, so it has no items." for said in wrong]


def _samples(path: Path, content: Mapping[str, Any], leaf: str) -> list[dict[str, Any]]:
    kept = content.get("samples", {}).get(leaf)  # in a file that somebody has written himself
    if kept:
        return list(kept)
    date = path.stem.rpartition("_")[2]
    for name in (leaf, re.sub(r"\W", "_", leaf)):
        file = path.with_name(f"samples_{name}_{date}.jsonl")
        try:
            if file.is_file():
                return read_lines(file)
        except DanteError as error:
            raise DanteError(
                f"{file.name} is not whole ({error.what})",
                where=error.where,
                allowed="one JSON object per line",
                fix=f"mv '{file}' '{file}.broken' (its rows stay, without items), and import again",
            ) from error
    return []


def _items(
    leaf: str, samples: Sequence[Mapping[str, Any]], content: Mapping[str, Any], slices: tuple[str, ...]
) -> Iterator[Item]:
    names = metric_names(content, leaf)
    values: dict[Any, dict[str, tuple[float, float]]] = {}
    texts: dict[Any, str] = {}
    for sample, kind in zip(samples, _filters(leaf, samples, content), strict=True):
        of_sample = values.setdefault(sample["doc_id"], {})
        # The prompt, worked examples included, as our own items have it; a chat's depends on the model's template.
        asked = None if content.get("chat_template") else sample.get("prompt_hash")
        texts[sample["doc_id"]] = str(asked or sample.get("doc_hash") or "")[:16]
        for key, name in names.items():
            metric, _, of_kind = key.partition(",")
            value = number(sample.get(metric))
            value = float(sample[metric]) if isinstance(sample.get(metric), bool) else value
            if of_kind == kind and value is not None:
                of_sample[name] = (value, 1.0)
    for doc, found in values.items():
        yield Item(f"{leaf}/{doc}", texts[doc], found, slices)


def _filters(leaf: str, samples: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> list[str]:
    """The filter of every line."""
    listed = content.get("configs", {}).get(leaf, {}).get("filter_list") or []
    in_order = [str(entry["name"]) for entry in listed if "name" in entry] or ["none"]
    seen: Counter[Any] = Counter()
    filters = []
    for sample in samples:
        at = seen[sample["doc_id"]] % len(in_order)
        seen[sample["doc_id"]] += 1
        filters.append(str(sample.get("filter") or in_order[at]))
    return filters


def _gives(items: Sequence[Item], score: Score) -> bool:
    """Whether the items' mean is the score: the samples are of this run, and the harness has averaged."""
    parts = [item.values[score.metric][0] for item in items if score.metric in item.values]
    if len(parts) != len(items) or score.n not in (None, len(items)):
        return False
    return abs(sum(parts) / len(parts) - score.value) < 1e-6
