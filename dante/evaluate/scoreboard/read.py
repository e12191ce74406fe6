"""Directories of runs → the models of the board, each with its scores, its items and its hours. Only reads files."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.evaluate.scoreboard import protocol
from dante.evaluate.scoreboard.compute import hours
from dante.evaluate.scoreboard.compute.hours import Hours
from dante.evaluate.scoreboard.protocol import Protocol
from dante.look.metric import Metric
from dante.look.numbers import is_number
from dante.system.files import fingerprint, read_json
from dante.system.jsonl import read_lines

Json = dict[str, Any]
# Per item: identity of what was asked, numerator and denominator of the main metric.
Items = dict[str, tuple[str, float, float]]
STUDENT = "student"
# How the models of a run are ordered; any other model follows.
MODELS = (STUDENT, "matched", "init", "teacher")
_METRIC = {field.name for field in fields(Metric)}


@dataclass(frozen=True)
class Score:
    """One model's main metric on one benchmark.

    Attributes:
        protocol: how it was measured.
        harness: whose code measured, with its own version.
        how: how the metric reads.
        value: as in `eval.json`.
        stderr: its standard error over items, or None.
        n: items.
        said: what a reader must know of where the items come from, or empty.
        items: what it made of each, where that is kept.
    """

    protocol: Protocol
    harness: str
    how: Metric
    value: float
    stderr: float | None
    n: int
    said: str
    items: Items


@dataclass(frozen=True)
class Model:
    """A model on the board.

    Attributes:
        name: as its runs call it.
        runs: that measured it with equal results.
        scores: task → its score.
        hours: of its training.
    """

    name: str
    runs: tuple[str, ...]
    scores: Mapping[str, Score]
    hours: Hours

    @property
    def label(self) -> str:
        """`student of my_run`; of several runs the first, and how many others; of no run its name alone."""
        first, *others = self.runs
        if self.runs == (self.name,):
            return self.name
        more = {0: "", 1: f" and {others[0] if others else ''}"}.get(len(others), f" and {len(others)} others")
        return f"{self.name} of {first}{more}"


def models_of(paths: Sequence[Path]) -> list[Model]:
    """All models with benchmarks, students first; what several runs measured alike stands once.

    Args:
        paths: directories of runs, or folders with an `eval.json`.

    Raises:
        DanteError: a folder has no `eval.json`, no benchmark, or one that cannot be read.
    """
    folders = {os.path.abspath(path): _evaluation(path) for path in paths}
    labels = _labels([run for run, _ in folders.values()])
    found: list[Model] = []
    for (run, folder), label in zip(folders.values(), labels, strict=True):
        for model in _of_run(run, folder, label):
            _add(found, model)
    return sorted(found, key=lambda model: MODELS.index(model.name) if model.name in MODELS else len(MODELS))


def _add(found: list[Model], model: Model) -> None:
    """A teacher or an initialisation that several runs share is one model; two students never are."""
    for place, other in enumerate(found):
        if other.name == model.name != STUDENT and other.scores == model.scores:
            found[place] = replace(other, runs=(*other.runs, *model.runs))
            return
    found.append(model)


def _evaluation(path: Path) -> tuple[Path, Path]:
    """A run's directory, and the folder of its `eval.json`."""
    if (path / "eval" / "eval.json").is_file():
        return path, path / "eval"
    if (path / "eval.json").is_file():
        return (path.absolute().parent if path.absolute().name == "eval" else path), path
    raise DanteError(
        f"{path} has no evaluation" if path.exists() else f"{path} does not exist",
        where=str(path / "eval" / "eval.json"),
        allowed="a run whose eval step is complete, or a folder with an eval.json",
        fix="leave it out, or give the run its evaluation: its own command again, with only=eval",
    )


def _labels(runs: Sequence[Path]) -> list[str]:
    """Names of directories, with the one above where two are called alike."""
    parts = [Path(os.path.abspath(run)).parts for run in runs]
    names = [part[-1] for part in parts]
    return [n if names.count(n) == 1 else "/".join(part[-2:]) for n, part in zip(names, parts, strict=True)]


def _of_run(run: Path, folder: Path, label: str) -> list[Model]:
    file, content = folder / "eval.json", read_json(folder / "eval.json")
    try:
        rows = [row for row in content["rows"] if "task_version" in row]
        mains = {task: next(iter(suite["metrics"].items())) for task, suite in content["suites"].items()}
        rows = [row for row in rows if row["task"] in mains and row["metric"] == mains[row["task"]][0]]
        items = {task: read_lines(folder / task / "items.jsonl") for task in dict.fromkeys(r["task"] for r in rows)}
        scores: dict[str, dict[str, Score]] = {}
        for row in rows:
            of_model = scores.setdefault(row["model"], {})
            of_model[row["task"]] = _score(row, mains[row["task"]][1], items[row["task"]], file)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise error if isinstance(error, DanteError) else _malformed(file, error) from error
    if not scores:
        raise DanteError(
            f"{label} has measured no benchmark",
            where=str(file),
            allowed="rows with a task_version: those of benchmark suites",
            fix="leave it out, or measure benchmarks of it: its own command with their suites, suite=[…] only=eval",
        )
    trained_in = _trained_in(run)
    cost = hours.of_run(trained_in or run)
    unknown = Hours(None, None, "only a student has the hours of its run")
    return [
        Model(name, (label,), own, cost if trained_in or name == STUDENT else unknown) for name, own in scores.items()
    ]


def _trained_in(folder: Path) -> Path | None:
    """The run that has trained what was measured without a run, where `measure` was given a run's release."""
    file = folder / "measured.json"
    run = read_json(file).get("run") if file.is_file() else None
    return None if run is None else Path(run)


def _score(row: Json, said: Json, lines: Sequence[Json], file: Path) -> Score:
    items = _items(lines, row["model"], row["metric"])
    if not is_number(row["value"]):
        raise ValueError(f"{row['task']} {row['metric']} of {row['model']} is {row['value']!r}")
    asked = fingerprint({key: item[0] for key, item in items.items()}) if items else ""
    stderr = row["stderr"]
    return Score(
        protocol=protocol.of_row(row, asked),
        harness=f"{row['harness']} {row['harness_version']}",
        how=Metric(**{key: value for key, value in said.items() if key in _METRIC}),
        value=float(row["value"]),
        stderr=float(stderr) if is_number(stderr) else None,
        n=row["n"],
        said=row.get("said", ""),
        items=items,
    )


def _items(lines: Sequence[Json], model: str, metric: str) -> Items:
    pairs = [(line, line["models"].get(model, {}).get(metric)) for line in lines]
    return {line["id"]: (line["text"], float(pair[0]), float(pair[1])) for line, pair in pairs if pair is not None}


def _malformed(file: Path, error: Exception) -> DanteError:
    what = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
    return DanteError(
        f"{file} is no evaluation: {what}",
        where=str(file),
        allowed="what an eval step writes: rows, and suites with their metrics",
        fix="leave it out, or evaluate again: the run's own command with only=eval on_existing=overwrite",
    )
