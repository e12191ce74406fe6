"""Which of the results count: one model, and of every task what was measured last."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dante.errors import DanteError
from dante.evaluate.foreign.collect import COMMAND
from dante.evaluate.foreign.metrics import in_shares
from dante.evaluate.foreign.result import Result
from dante.evaluate.foreign.tasks import Name, name_of


@dataclass(frozen=True)
class Chosen:
    """One model's results.

    Attributes:
        model: its name.
        results: one per task, with the task's name, in the order in which they were found.
        notes: what was left out or renamed.
    """

    model: str
    results: Sequence[tuple[Name, Result]]
    notes: Sequence[str]


def choose(results: Sequence[Result], model: str | None, paths: Sequence[Path]) -> Chosen:
    """The results of one model.

    Args:
        results: of all files; at least one.
        model: which of the models, or what the one model is to be called; None: the only one that is named.
        paths: that were asked for; errors repeat them.

    Raises:
        DanteError: there are several models, or none has a name.
    """
    found = list(dict.fromkeys(result.model for result in results if result.model))
    notes: list[str] = []
    if model is None:
        model = _only(found, paths)
    elif model in found:
        results = [result for result in results if result.model in ("", model)]
    else:
        _check_one_model(results, model, paths)
        notes += [f"{model} stands for {', '.join(found)}."] if found else []
    notes += [f"{file} names no model: it is taken as {model}'s." for file in _unnamed(results)]
    kept, left_out = _newest(in_shares(results))
    named, renamed = _apart(kept)
    return Chosen(model, named, [*notes, *left_out, *renamed])


def _unnamed(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.path.name for result in results if not result.model))


def _only(found: Sequence[str], paths: Sequence[Path]) -> str:
    if len(found) == 1:
        return found[0]
    words = shlex.join(str(path) for path in paths)
    if not found:
        raise DanteError("no result file names its model", where=words, fix=f"{COMMAND} {words} --model my-model")
    raise DanteError(
        f"there are results of {len(found)} models: {', '.join(found)}",
        where=words,
        allowed="one model at a time",
        fix=f"{COMMAND} {words} --model {shlex.quote(found[0])}",
    )


def _check_one_model(results: Sequence[Result], model: str, paths: Sequence[Path]) -> None:
    """Harnesses write one model's name differently, but one harness has measured a task of one model under one name."""
    models: dict[tuple[str, str], str] = {}
    for result in results:
        first = models.setdefault((result.harness.name, name_of(result).task), result.model) if result.model else ""
        if first != result.model:
            words = shlex.join(str(path) for path in paths)
            raise DanteError(
                f"{model} cannot stand for both {first} and {result.model}: there is a {result.task} of each",
                where=words,
                allowed=f"--model {first}, --model {result.model}, or the files of one of them",
                fix=f"{COMMAND} {words} --model {shlex.quote(first)}",
            )


def _newest(results: Sequence[Result]) -> tuple[list[Result], list[str]]:
    """Of a harness's results of one task the last one, and which others there were."""
    by_task: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_task.setdefault((result.harness.name, name_of(result).task), []).append(result)
    kept = [max(alike, key=lambda result: result.when) for alike in by_task.values()]
    notes = [
        f"{task}: {last.path.name} is the newest; left out: {result.path.name}{_unlike(result, last)}."
        for ((_, task), alike), last in zip(by_task.items(), kept, strict=True)
        for result in alike
        if result is not last
    ]
    return kept, notes


def _unlike(result: Result, last: Result) -> str:
    """What else was different; a newer trial of ten questions is not what anybody wants to count."""
    told = ("limit", "chat", "decoding", "task_version", "harness_version", "precision")
    pairs = {key: (getattr(result, key), getattr(last, key)) for key in told}
    said = [f"{key} {before or 'none'}, now {now or 'none'}" for key, (before, now) in pairs.items() if before != now]
    return f" ({'; '.join(said)})" if said else ""


def _apart(results: Sequence[Result]) -> tuple[list[tuple[Name, Result]], list[str]]:
    """Names of tasks; where two harnesses have measured one, the second gets its harness's name behind it."""
    named: dict[str, tuple[Name, Result]] = {}
    notes = []
    for result in results:
        name = name_of(result)
        if name.task in named:
            first = named[name.task][1].harness.title
            longer = f"{name.task}_{result.harness.name.replace('-', '_')}"
            notes.append(f"{name.task} is {first}'s; {result.harness.title} has measured it as well: {longer}.")
            name = replace(name, task=longer, heading=f"{name.heading}, by {result.harness.title}")
        named[name.task] = (name, result)
    return list(named.values()), notes
