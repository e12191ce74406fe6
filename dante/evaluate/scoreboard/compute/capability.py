"""What goes into the figure: mean scores over one set of benchmarks, at the A100-hours of training.

A mean is only drawn beside another one over the same benchmarks. So the set is what all students of the board were
asked of the DANTE card's basket, each benchmark in its first reading; where that is nothing, the board's first column.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dante.errors import DanteError, did_you_mean
from dante.evaluate.scoreboard.protocol import BENCHMARKS
from dante.evaluate.scoreboard.read import STUDENT, Model
from dante.evaluate.scoreboard.references import CAVEATS, Published, Reference
from dante.evaluate.scoreboard.table import columns


@dataclass(frozen=True)
class Point:
    """A model in the figure.

    Attributes:
        name: its label.
        hours: A100-hours of its training.
        with_teacher: the teacher's answers included, or None.
        value: mean score, per cent.
        stderr: its standard error over items, or None.
        ours: measured here.
    """

    name: str
    hours: float
    with_teacher: float | None
    value: float
    stderr: float | None
    ours: bool


@dataclass(frozen=True)
class Capability:
    """A figure's content.

    Attributes:
        tasks: that the mean is over.
        names: of these.
        points: those with hours and all scores.
        notes: what is left off and why, and what keeps points from being compared.
    """

    tasks: tuple[str, ...]
    names: tuple[str, ...]
    points: tuple[Point, ...]
    notes: tuple[str, ...]


def capability(models: Sequence[Model], references: Sequence[Reference], chosen: str | None) -> Capability:
    """Points and notes.

    Args:
        models: of the board.
        references: of cards.
        chosen: one benchmark to draw in place of the basket's mean, or None.

    Raises:
        DanteError: nobody here was asked the chosen benchmark.
    """
    names = {column.task: column.name for column in columns(models)}
    tasks = _tasks(models, list(names), chosen)
    ours = [point for model in models if (point := _ours(model, tasks)) is not None]
    cards = [point for one in references if (point := _card(one, tasks)) is not None]
    notes = [*_subsets(models, tasks), *_left_off(models, tasks), *_caveats(references, cards, tasks)]
    return Capability(tuple(tasks), tuple(names[task] for task in tasks), (*ours, *cards), tuple(notes))


def _tasks(models: Sequence[Model], measured: list[str], chosen: str | None) -> list[str]:
    if chosen is not None:
        if chosen not in measured:
            raise DanteError(
                f"no run here has measured {chosen!r}",
                where="--figure",
                allowed=", ".join(measured),
                fix=did_you_mean(chosen, measured) or f"--figure {measured[0]}",
            )
        return [chosen]
    students = [model for model in models if model.name == STUDENT] or list(models)
    common = [task for task in measured if all(task in model.scores for model in students)]
    readings = ([task for task in tasks if task in common] for tasks in BENCHMARKS["basket"].values())
    return [tasks[0] for tasks in readings if tasks] or (common or measured)[:1]


def _ours(model: Model, tasks: Sequence[str]) -> Point | None:
    if not model.hours.training or any(task not in model.scores for task in tasks):
        return None
    scores = [model.scores[task] for task in tasks]
    errors = [score.stderr for score in scores]
    mean = 100 * sum(score.value for score in scores) / len(tasks)
    squares = sum(error**2 for error in errors if error is not None)
    stderr = None if None in errors else 100 * math.sqrt(squares) / len(tasks)
    return Point(model.label, model.hours.training, model.hours.with_teacher, mean, stderr, True)


def _card(one: Reference, tasks: Sequence[str]) -> Point | None:
    values = _values(one, tasks)
    if one.a100_hours is None or len(values) < len(tasks):
        return None
    mean = sum(100 * value.value for value in values) / len(tasks)
    signs = dict.fromkeys(sign for value in values for sign in value.signs.split(",") if sign)
    name = f"{one.model} [{','.join(signs)}]" if signs else one.model
    return Point(name, one.a100_hours, one.with_cache_a100_hours, mean, None, False)


def _values(one: Reference, tasks: Sequence[str]) -> list[Published]:
    return [value for task in tasks if (value := one.of(task)) is not None]


def _subsets(models: Sequence[Model], tasks: Sequence[str]) -> list[str]:
    partial = [
        model.label
        for model in models
        if any(task in model.scores and model.scores[task].protocol.limit is not None for task in tasks)
    ]
    return [f"Asked a subset of the items only: {', '.join(partial)}."] if partial else []


def _left_off(models: Sequence[Model], tasks: Sequence[str]) -> list[str]:
    off = [
        f"{model.label} ({model.hours.why_not or 'not asked all of these benchmarks'})"
        for model in models
        if _ours(model, tasks) is None
    ]
    return [f"Left off: {'; '.join(off)}."] if off else []


def _caveats(references: Sequence[Reference], cards: Sequence[Point], tasks: Sequence[str]) -> list[str]:
    shown = {point.name.split(" [")[0] for point in cards}
    keys = dict.fromkeys(
        key for one in references if one.model in shown for value in _values(one, tasks) for key in value.caveats
    )
    return [f"[{CAVEATS[key]['sign']}] {CAVEATS[key]['text']}." for key in keys]
