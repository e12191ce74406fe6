"""Everything that is measured of one model, written into one directory; teacher, initialisation and student alike.

    scores.json             the suites that were measured, rows, notes and commands
    SUITE/suite.json        what the suite measures, in words, and its details
    SUITE/items.jsonl       per item its numerators and denominators
    SUITE/items-MODEL.jsonl the same of a model that the suite makes by itself
    SUITE/answers.jsonl     texts of the model, where the suite asked for some
    SUITE/tokens.jsonl      items token by token, where the suite gives some

and whatever a suite leaves beside them. A directory holds nothing of another model, so a teacher's and an
initialisation's are shared by all runs with them.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.evaluate.progress import Bars
from dante.evaluate.rows import Line, other_rows, rows_of
from dante.evaluate.subject import Subject
from dante.evaluate.suite import Item, Measurement, NotMeasured, Suite
from dante.run.parts import build
from dante.system.files import write_json
from dante.system.jsonl import write_lines
from dante.system.threads import use_threads


def build_suites(nodes: Mapping[str, dict[str, Any] | None]) -> list[Suite]:
    """The suites of an evaluation, in the order of its config; one that is null is left out."""
    return [build(node, name=name) for name, node in nodes.items() if node is not None]


def measure(subject: Subject, suites: list[Suite], out: Path, threads: int | None) -> None:
    """Measure one model and write its directory.

    Args:
        subject: the model.
        suites: what is measured of it.
        out: directory to write.
        threads: CPU threads; None: all.
    """
    use_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    scores: dict[str, Any] = {"model": subject.name, "suites": [], "rows": [], "others": [], "notes": []}
    commands: dict[str, str] = {}
    with Bars(subject.name) as bars:
        for suite in suites:
            folder = out / suite.name
            folder.mkdir(exist_ok=True)
            try:
                measurement = suite.measure(subject, folder, bars)
            except NotMeasured as reason:
                scores["notes"].append(str(reason))
                continue
            if measurement is None:
                continue
            check_measurement(suite, measurement)
            _write(suite, measurement, folder)
            scores["suites"].append(suite.name)
            scores["rows"] += rows_of(suite, measurement, subject.name, subject.seed)
            scores["others"] += other_rows(suite, measurement, subject.seed)
            scores["notes"] += measurement.notes
            commands |= {suite.name: measurement.command} if measurement.command else {}
    write_json(out / "scores.json", scores | {"commands": commands, "precision": subject.precision})


def check_measurement(suite: Suite, measurement: Any) -> None:
    """What a suite that somebody has just written may give back.

    Raises:
        DanteError: no measurement, items of one id, numbers that are not finite, metrics that nobody described.
    """

    def wrong(what: str, allowed: str) -> DanteError:
        return DanteError(
            f"the suite {suite.name!r} ({type(suite).__name__}) gives {what}",
            where=f"eval.suites.{suite.name}",
            allowed=allowed,
            fix="correct its measure()",
        )

    if not isinstance(measurement, Measurement):
        raise wrong(type(measurement).__name__, "a Measurement, or None where nothing is asked")
    if not measurement.items and not measurement.stated:
        raise wrong("no item and no stated quantity", "items, or None where nothing is asked")
    for key, metric_said in suite.metrics.items():
        if metric_said.better not in ("lower", "higher", ""):
            raise wrong(f"{key} the direction {metric_said.better!r}", "lower, higher, or empty")
    for items in (measurement.items, *measurement.others.values()):
        ids = Counter(item.id for item in items)
        for item in items:
            if ids[item.id] > 1:
                raise wrong(f"{ids[item.id]} items the id {item.id!r}", "an id of its own for every item")
            for metric, part in item.values.items():
                if metric not in suite.metrics:
                    raise wrong(
                        f"item {item.id!r} a metric {metric!r} that it does not describe", ", ".join(suite.metrics)
                    )
                if len(part) != 2 or not all(math.isfinite(number) for number in part):
                    raise wrong(f"item {item.id!r} {metric} = {part}", "(numerator, denominator), both finite")


def _write(suite: Suite, measurement: Measurement, folder: Path) -> None:
    write_json(
        folder / "suite.json",
        {
            "heading": suite.heading,
            "counts": suite.counts,
            "metrics": {key: asdict(metric) for key, metric in suite.metrics.items()},
            "contrasts": [list(pair) for pair in suite.contrasts],
            "slices": list(measurement.slices),
            "details": measurement.details,
        },
    )
    write_lines(folder / "items.jsonl", [as_line(item) for item in measurement.items])
    for model, items in measurement.others.items():
        write_lines(folder / f"items-{model}.jsonl", [as_line(item) for item in items])
    for name, some in (("answers", measurement.answers), ("tokens", measurement.tokens)):
        if some:
            write_lines(folder / f"{name}.jsonl", list(some))


def as_line(item: Item) -> Line:
    """An item as a line of `items.jsonl`."""
    return {
        "id": item.id,
        "text": item.text,
        "slices": list(item.slices),
        "values": {k: list(v) for k, v in item.values.items()},
    }


def as_item(line: Line) -> Item:
    """A line of `items.jsonl` as an item."""
    values = {key: (float(above), float(below)) for key, (above, below) in line["values"].items()}
    return Item(line["id"], line["text"], values, tuple(line["slices"]))
