"""What an evaluation holds of its student: every number, how it was made, and the items that it is a ratio over.

`eval.json` has the numbers. The items beside it are what lets two runs be compared within an item; a quantity without
them (a calibration error, another harness's score) has only its seeds.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dante.errors import DanteError
from dante.look.metric import Metric
from dante.report.evaluation import MAIN, heading, parts, read_described, read_items
from dante.report.read import Json
from dante.report.words import how as how_of
from dante.statistics.ratio import Ratio

STUDENT = "student"
# What must be equal for two numbers to be comparable, and what it is called when it is not.
SETTINGS = ("decoding", "n_shot", "harness", "harness_version", "n")
Key = tuple[str, str]


@dataclass(frozen=True)
class Measured:
    """One quantity of one run.

    Attributes:
        value: as in `eval.json`.
        settings: how it was made; numbers are comparable when all of it is equal.
        ratio: per item, in the order of their ids; None without items.
    """

    value: float
    settings: dict[str, str]
    ratio: Ratio | None


@dataclass(frozen=True)
class Evaluation:
    """Everything measured of one run.

    Attributes:
        student: (task, metric) → quantity, in the order of `eval.json`.
        others: model → (task, metric) → value; teacher, initialisation and counting models.
        how: (task, metric) → how its numbers read.
        headings: suite → what was asked, in words.
        scored: identity of the held-out texts, or of how many there are where no item tells.
        heldout: how many of them.
    """

    student: dict[Key, Measured]
    others: dict[str, dict[Key, float]]
    how: dict[Key, Metric]
    headings: dict[str, str]
    scored: str
    heldout: int


def read_evaluation(folder: Path) -> Evaluation:
    """Reads `eval.json` and the items beside it.

    Raises:
        DanteError: a file is damaged, there is no row of a student, or items do not add up to their row.
    """
    content = read_described(folder)
    items = read_items(folder, content)
    student: dict[Key, Measured] = {}
    others: dict[str, dict[Key, float]] = {}
    how: dict[Key, Metric] = {}
    try:
        for row in content["rows"]:
            key = (row["task"], row["metric"])
            if row["model"] != STUDENT:
                others.setdefault(row["model"], {})[key] = float(row["value"])
                continue
            student[key] = _measured(row, items, content.get("precision"), folder)
            how[key] = how_of(row)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DanteError):
            raise
        raise _damaged(folder, f"{type(error).__name__} {error}") from error
    if not student:
        raise _damaged(folder, "no row of a student")
    main = items.get(MAIN, [])
    count = len(main) or next((int(row["n"]) for row in content["rows"] if row["task"] == MAIN), 0)
    headings = {task.split("/")[0]: heading(content, task) for task, _ in student}
    return Evaluation(student, others, how, headings, _identity(main) if main else f"{count} records", count)


def _measured(row: Json, items: dict[str, list[Json]], precision: str | None, folder: Path) -> Measured:
    task, metric = row["task"], row["metric"]
    settings = {name: str(row[name]) for name in SETTINGS if row.get(name) is not None}
    settings |= {"precision": precision} if precision else {}
    suite, _, part = task.partition("/")
    suite_items = [item for item in items.get(suite, []) if not part or part in item["slices"]]
    chosen = sorted((item for item in suite_items if STUDENT in item["models"]), key=lambda item: item["id"])
    item_parts = parts(chosen, STUDENT, metric)
    if not item_parts or len(item_parts) < len(chosen):  # stated, not a ratio over items
        return Measured(float(row["value"]), settings, None)
    pairs = np.array(item_parts, dtype=np.float64)
    ratio = Ratio(pairs[:, 0], pairs[:, 1])
    if not np.isclose(ratio.value, row["value"], rtol=1e-6, atol=1e-9, equal_nan=True):
        raise _damaged(folder, f"the items of {task} {metric} give {ratio.value:.6g}, its row says {row['value']:.6g}")
    return Measured(float(row["value"]), settings | {"items": _identity(chosen)}, ratio)


def _identity(items: Sequence[Json]) -> str:
    """Hash of which items these are, and of what was asked."""
    texts = sorted(f"{item['id']} {item['text']}" for item in items)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _damaged(folder: Path, what: str) -> DanteError:
    return DanteError(
        f"the evaluation is damaged: {what}",
        where=str(folder / "eval.json"),
        allowed="what the eval step writes",
        fix="evaluate the run again: only=eval on_existing=overwrite",
    )
