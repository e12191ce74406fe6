"""Items → rows and paired differences: one form for every suite, model and harness."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dante.evaluate.suite import Item, Measurement, Metric, Suite
from dante.statistics.bootstrap import paired_difference
from dante.statistics.ratio import Ratio

Line = dict[str, Any]


def rows_of(suite: Suite, found: Measurement, model: str, seed: int) -> list[Line]:
    """A model's rows: every metric on everything and per slice, then what the suite states."""
    stated = {statistic.metric for statistic in found.stated}
    derived = [
        _row(suite, found, model, seed, task, metric, ratio.value, ratio.stderr, len(ratio))
        for task, chosen in tasks(suite.name, found.slices, found.items).items()
        for metric, ratio in ratios(chosen).items()
        if metric not in stated
    ]
    return derived + [
        _row(suite, found, model, seed, suite.name, statistic.metric, statistic.value, statistic.stderr, statistic.n)
        for statistic in found.stated
    ]


def other_rows(suite: Suite, found: Measurement, seed: int) -> list[Line]:
    """Rows of the models that a suite makes by itself."""
    return [
        _row(suite, found, model, seed, task, metric, ratio.value, ratio.stderr, len(ratio))
        for model, items in found.others.items()
        for task, chosen in tasks(suite.name, found.slices, items).items()
        for metric, ratio in ratios(chosen).items()
    ]


def tasks(name: str, slices: Sequence[str], items: Sequence[Item]) -> dict[str, list[Item]]:
    """The items of a suite and of each of its slices, by the task that their rows name: `heldout/domain=code`."""
    if not items:
        return {}
    return {name: list(items)} | {f"{name}/{part}": [item for item in items if part in item.slices] for part in slices}


def ratios(items: Sequence[Item]) -> dict[str, Ratio]:
    """Every quantity that all items have, as a ratio over them."""
    shared = [metric for metric in items[0].values if all(metric in item.values for item in items)] if items else []
    return {metric: _ratio(items, metric) for metric in shared}


def _ratio(items: Sequence[Item], metric: str) -> Ratio:
    above, below = zip(*(item.values[metric] for item in items), strict=True)
    return Ratio(np.array(above, dtype=np.float64), np.array(below, dtype=np.float64))


def _row(
    suite: Suite, measurement: Measurement, model: str, seed: int, task: str, metric: str, value: float,
    stderr: float | None, n: int,
) -> Line:  # fmt: skip
    """One result in the form every harness shares."""
    return {
        "model": model,
        "task": task,
        "metric": metric,
        "value": value,
        "stderr": stderr,
        "n": n,
        "n_shot": measurement.n_shot,
        "harness": measurement.harness,
        "harness_version": measurement.harness_version,
        "decoding": measurement.decoding or suite.metrics.get(metric, Metric(metric)).decoding,
        "seed": seed,
        **measurement.protocol,
    }


def pairs_of(
    name: str,
    contrasts: Sequence[Sequence[str]],
    main: str,
    slices: Sequence[str],
    models: Mapping[str, Sequence[Item]],
    interval: Mapping[str, Any],
) -> Iterator[Line]:
    """Paired differences of a suite: all contrasts in its main metric, the first one in slices and other metrics.

    A slice of a single item has no interval and is left out; items that only one of two models has are, too.

    Args:
        name: of the suite.
        contrasts: pairs of models, see `Suite`.
        main: key of the main metric.
        slices: that have rows.
        models: model → its items.
        interval: of the bootstrap: `resamples`, `confidence`, `seed`.
    """
    for task in [name, *(f"{name}/{part}" for part in slices)]:
        for a, b in contrasts if task == name else contrasts[:1]:
            shared_ratios = _shared(a, b, task.partition("/")[2], models)
            if main in shared_ratios.get(a, {}) and main in shared_ratios.get(b, {}):
                yield _pair(a, b, task, main, shared_ratios, interval)
    for a, b in contrasts[:1]:
        shared_ratios = _shared(a, b, "", models)
        for metric in shared_ratios.get(a, {}):
            if metric != main and metric in shared_ratios[b]:
                yield _pair(a, b, name, metric, shared_ratios, interval)


def _shared(a: str, b: str, part: str, models: Mapping[str, Sequence[Item]]) -> dict[str, dict[str, Ratio]]:
    """The ratios of both models over the items that both have, if these are at least two."""
    if a not in models or b not in models:
        return {}
    ids_of_b = {item.id for item in models[b]}
    kept = [item for item in models[a] if item.id in ids_of_b and (not part or part in item.slices)]
    if len(kept) < 2:
        return {}
    other = {item.id: item for item in models[b]}
    return {a: ratios(kept), b: ratios([other[item.id] for item in kept])}


def _pair(
    a: str,
    b: str,
    task: str,
    metric: str,
    shared_ratios: Mapping[str, Mapping[str, Ratio]],
    interval: Mapping[str, Any],
) -> Line:
    """A paired difference of one quantity between two models."""
    difference = asdict(paired_difference(shared_ratios[a][metric], shared_ratios[b][metric], **interval))
    return {"a": a, "b": b, "task": task, "metric": metric} | difference
