"""A sweep's `sweep.json` and a comparison's `comparison.json`: the one place here that knows their shape."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.experiments.schema import Difference, Tuning
from dante.system.files import read_json

SWEEP, COMPARISON = "sweep.json", "comparison.json"
Json = dict[str, Any]
Runs = dict[str, dict[int, Path]]


@dataclass(frozen=True)
class Comparison:
    """What an experiment takes from a comparison.

    A metric is called by its task and itself: `heldout bits_per_byte`. Rows of one domain or one language are left to
    the comparison: they are many, and the experiment is not about them.

    Attributes:
        commands: what makes the runs.
        runs: arm → seed → the run's directory.
        tuning_runs: the runs by which settings were chosen.
        arms: arm → metric → seed → value.
        primary: the metrics that the comparison judged first.
        references: teacher, initialisation … → metric → value.
        differences: with intervals.
        tuning: scores and choices; None without tuning.
        failed: runs that did not finish, in words.
        figures: PNG files of the comparison.
    """

    commands: list[str]
    runs: Runs
    tuning_runs: list[Path]
    arms: dict[str, dict[str, dict[int, float]]]
    primary: list[str]
    references: dict[str, dict[str, float]]
    differences: list[Difference]
    tuning: Tuning | None
    failed: list[str]
    figures: list[Path]


def read_comparison(source: Path) -> Comparison:
    """Reads a sweep's directory, which holds a comparison, or a comparison's, whose runs lie beside it or in `runs/`.

    Raises:
        DanteError: it holds no comparison, or one of another shape; names the file.
    """
    path = next((p for p in (source / COMPARISON, source / "comparison" / COMPARISON) if p.is_file()), None)
    if path is None:
        raise DanteError(
            f"{source} holds no {COMPARISON}",
            where=str(source),
            allowed="a sweep's directory, or what `python -m dante.report compare` wrote",
            fix=f"python -m dante.report compare {source} --out {source}",
        )
    content = read_json(path)
    sweep = read_json(source / SWEEP) if (source / SWEEP).is_file() else {}
    run_folders = {p["run"]: source / p["directory"] for p in sweep.get("points", []) if "directory" in p}
    try:
        tables = content["tables"]
        _refuse_doubled_arms(tables, path)
        return Comparison(
            commands=_commands(content, tables),
            runs={arm: runs for table in tables for arm, runs in _runs(source, table, run_folders).items()},
            tuning_runs=[_place(source, p["run"], run_folders) for p in sweep.get("points", []) if _tuned(p)],
            arms=_values(tables),
            primary=list(dict.fromkeys(_metric(result) for _, result in _results(tables) if result["primary"])),
            references=_references(tables),
            differences=[
                *(difference for _, result in _results(tables) for difference in _differences(result, content)),
                *(difference for table in tables for difference in _factors(table, content)),
            ],
            tuning=_tuning(sweep.get("tuning")),
            failed=[f"{absent_run['run']}: {absent_run['why']}" for absent_run in content["absent"]],
            figures=sorted(path.parent.glob("*.png")),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, DanteError):
            raise
        raise DanteError(
            f"{path.name} or {SWEEP} is not of the shape that this version reads ({type(error).__name__}: {error})",
            where=str(path),
            fix="write the comparison again with this version",
        ) from None


def _refuse_doubled_arms(tables: list[Json], path: Path) -> None:
    names = [arm for table in tables for arm in table["arms"]]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise DanteError(
            f"the arm {doubled[0]!r} stands in two tables of unlike things",
            where=str(path),
            fix="compare runs of one teacher, student and data: an experiment is about one of them",
        )


def _commands(content: Json, tables: list[Json]) -> list[str]:
    """The sweeps' commands, or else the runs'. Where the script lay on that machine is nobody's business."""
    commands = [sweep["command"] for sweep in content["sweeps"]]
    commands = commands or [
        run["command"] for table in tables for arm in table["arms"].values() for run in arm["runs"].values()
    ]
    return [re.sub(r"^python \S*/train\.py", "python train.py", command) for command in commands]


def _runs(source: Path, table: Json, run_folders: dict[str, Path]) -> Runs:
    return {
        arm: {int(seed): _place(source, run["run"], run_folders) for seed, run in facts["runs"].items()}
        for arm, facts in table["arms"].items()
    }


def _place(source: Path, name: str, run_folders: dict[str, Path]) -> Path:
    """Where a run lies: as the sweep says, else beside what is read, else in `runs/`."""
    if name in run_folders:
        return run_folders[name]
    beside = source.resolve().parent / name
    return beside if beside.is_dir() else Path("runs") / name


def _results(tables: list[Json]) -> Iterator[tuple[Json, Json]]:
    """Every table with each of its results that is not of one domain or one language."""
    for table in tables:
        for result in table["results"]:
            if "=" not in result["task"]:
                yield table, result


def _metric(result: Json) -> str:
    return f"{result['task']} {result['metric']}"


def _values(tables: list[Json]) -> dict[str, dict[str, dict[int, float]]]:
    arms: dict[str, dict[str, dict[int, float]]] = {}
    for _, result in _results(tables):
        for cell in result["arms"]:
            values = {int(seed): float(value) for seed, value in cell["seed_values"].items() if value is not None}
            if values:
                arms.setdefault(cell["arm"], {})[_metric(result)] = values
    return arms


def _references(tables: list[Json]) -> dict[str, dict[str, float]]:
    """By model; with the table's number where several tables have a teacher each."""
    references: dict[str, dict[str, float]] = {}
    for table, result in _results(tables):
        for model, value in result["references"].items():
            name = model if len(tables) == 1 else f"{model}, table {table['table']}"
            if value is not None:
                references.setdefault(name, {})[_metric(result)] = float(value)
    return references


def _differences(result: Json, content: Json) -> Iterator[Difference]:
    for cell in result["arms"]:
        if cell["difference"] is not None:
            arms = (cell["arm"], cell["baseline"])
            yield _difference(" − ".join(arms), _metric(result), cell, content, arms=arms)


def _factors(table: Json, content: Json) -> Iterator[Difference]:
    """Effects of a factorial sweep's factors, over all pairs of arms that differ in nothing else."""
    primary = next((_metric(result) for result in table["results"] if result["primary"]), "")
    for effect in table.get("factors", []):
        pairs = f" ({effect['pairs']} pairs of arms)" if effect["pairs"] > 1 else ""
        name = f"{effect['factor']}: {effect['level']} − {effect['against']}{pairs}"
        yield _difference(name, primary, effect, content, pairs=effect["pairs"])


def _difference(
    name: str, metric: str, effect: Json, content: Json, arms: tuple[str, str] | None = None, pairs: int | None = None
) -> Difference:
    return Difference(
        name=name,
        metric=metric,
        arms=arms,
        difference=effect["difference"],
        low=effect["low"],
        high=effect["high"],
        confidence=content["confidence"],
        stderr=effect["stderr"],
        n=effect["n_items"],
        pairs=pairs,
        p=effect["p"],
        p_adjusted=effect["p_corrected"],
    )


def _tuning(tuning: Json | None) -> Tuning | None:
    if not tuning:
        return None
    return Tuning(
        grid={key: [str(value) for value in values] for key, values in tuning["grid"].items()},
        seed=tuning["seed"],
        metric=tuning["metric"],
        scores={
            arm: {str(value): float(score) for value, score in scores.items() if score is not None}
            for arm, scores in tuning["scores"].items()
        },
        chosen={
            arm: {key: str(value) for key, value in keys.items()} for arm, keys in tuning["chosen"].items() if keys
        },
    )


def _tuned(point: Json) -> bool:
    return point["phase"] == "tune" and point["status"] == "done"
