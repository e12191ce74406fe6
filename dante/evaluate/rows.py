"""Measurements → rows and pairs: one form for every quantity, model and harness."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Int64

import dante
from dante.cache import Record
from dante.evaluate import items
from dante.statistics.bootstrap import paired_difference
from dante.statistics.ratio import Ratio

Row = Callable[..., dict[str, Any]]


def row(
    *, model: str, task: str, metric: str, value: float, stderr: float | None, n: int, decoding: str, seed: int,
    harness: str = "dante", harness_version: str = dante.__version__,
) -> dict[str, Any]:  # fmt: skip
    """One result in the form every harness shares."""
    return {
        "model": model,
        "task": task,
        "metric": metric,
        "value": value,
        "stderr": stderr,
        "n": n,
        "n_shot": 0,
        "harness": harness,
        "harness_version": harness_version,
        "decoding": decoding,
        "seed": seed,
    }


def ratio_row(row: Row, task: str, metric: str, ratio: Ratio, decoding: str) -> dict[str, Any]:
    """A row of a quantity over items."""
    return row(task=task, metric=metric, value=ratio.value, stderr=ratio.stderr, n=len(ratio), decoding=decoding)


def sliced(row: Row, ratios: Mapping[str, Ratio], records: Sequence[Record]) -> list[dict[str, Any]]:
    """Rows of every quantity, on everything and per slice (`heldout/domain=…`, `heldout/language=…`)."""
    return [
        ratio_row(row, task, metric, ratio.of(chosen), "teacher-forced")
        for task, chosen in items.slices(records).items()
        for metric, ratio in ratios.items()
    ]


def retention_tasks(lines: Sequence[Mapping[str, Any]]) -> dict[str, Int64[np.ndarray, "_"]]:
    """Row numbers per task: `retention`, its two kinds, and each language and programming language."""
    tasks = {"retention": list(range(len(lines)))}
    for index, line in enumerate(lines):
        for task in (f"retention/{line['kind']}", f"retention/{line['kind']}={line['name']}"):
            tasks.setdefault(task, []).append(index)
    return {task: np.array(chosen, dtype=np.int64) for task, chosen in tasks.items()}


def retention_rows(row: Row, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Bits per byte of the retention texts of one model, given `bits` and `bytes` per text."""
    ratio = bits_ratio([line["bits"] for line in lines], [line["bytes"] for line in lines])
    return [
        ratio_row(row, task, "bits_per_byte", ratio.of(chosen), "plain text")
        for task, chosen in retention_tasks(lines).items()
    ]


def bits_ratio(bits: Sequence[float], text_bytes: Sequence[int]) -> Ratio:
    """Bits per byte from lists."""
    return Ratio(np.array(bits, dtype=np.float64), np.array(text_bytes, dtype=np.float64))


def pair(a: str, b: str, task: str, metric: str, ratios: Mapping[str, Ratio], interval: Mapping[str, Any]
         ) -> dict[str, Any]:  # fmt: skip
    """A paired difference of one quantity between two models."""
    difference = asdict(paired_difference(ratios[a], ratios[b], **interval))
    return {"a": a, "b": b, "task": task, "metric": metric} | difference
