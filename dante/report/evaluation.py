"""What an `eval` step wrote, as reports and comparisons read it: any suite, by what its files say of it."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from dante.look.metric import Metric
from dante.system.files import read_json
from dante.system.jsonl import read_lines

Json = dict[str, Any]
# The lab's main question is asked of the teacher's held-out answers.
MAIN = "heldout"
_FIELDS = {field.name for field in fields(Metric)}


def read_described(folder: Path) -> Json:
    """`eval.json`, in whose rows and pairs stands how their metric reads (`how`), and what n counts (`counts`)."""
    content: Json = read_json(folder / "eval.json")
    suites = content.get("suites") or {}
    metrics = {
        name: {
            key: Metric(**{k: v for k, v in metric_facts.items() if k in _FIELDS})
            for key, metric_facts in suite["metrics"].items()
        }
        for name, suite in suites.items()
    }
    for line in [*content.get("rows", []), *content.get("pairs", [])]:
        name = str(line.get("task", "")).split("/")[0]
        metric = metrics.get(name, {}).get(line.get("metric", ""))
        line |= {"how": metric} if metric else {}
        line |= {"counts": suites[name]["counts"]} if name in suites else {}
    return content


def read_items(folder: Path, evaluation: Json) -> dict[str, list[Json]]:
    """Suite → its joined items: `id`, `text`, `slices`, and per model numerators and denominators by metric."""
    return {name: read_lines(folder / name / "items.jsonl") for name in evaluation.get("suites") or {}}


def heading(evaluation: Json, task: str) -> str:
    """Of a task's tables: `held-out answers`; the task's own name where no suite says more."""
    name = task.split("/")[0]
    return str((evaluation.get("suites") or {}).get(name, {}).get("heading", name))


def details(evaluation: Json, key: str) -> Json:
    """Model → what the first suite that has such details says of it."""
    for by_model in (evaluation.get("details") or {}).values():
        details_by_model = {
            model: model_details[key] for model, model_details in by_model.items() if key in model_details
        }
        if details_by_model:
            return details_by_model
    return {}


def parts(items: Sequence[Json], model: str, metric: str) -> list[tuple[float, float]]:
    """A model's (numerator, denominator) of each item that has them."""
    pairs = (item["models"].get(model, {}).get(metric) for item in items)
    return [(float(part[0]), float(part[1])) for part in pairs if part is not None]


def total(items: Sequence[Json], model: str, metric: str) -> tuple[float, float]:
    """Their sums."""
    item_parts = parts(items, model, metric)
    return sum((part[0] for part in item_parts), 0.0), sum((part[1] for part in item_parts), 0.0)
