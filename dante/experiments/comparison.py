"""A sweep's `sweep.json` and a comparison's `comparison.json`: the one place here that knows their shape."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.experiments.schema import Difference, Tuning, validated
from dante.manifest import read_json

SWEEP, COMPARISON = "sweep.json", "comparison.json"
Runs = dict[str, dict[int, Path]]


@dataclass(frozen=True)
class Comparison:
    """What an experiment takes from a comparison.

    Attributes:
        commands: what makes the runs.
        runs: arm → seed → the run's directory.
        tuning_runs: the runs by which settings were chosen.
        arms: arm → metric → seed → value.
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
    references: dict[str, dict[str, float]]
    differences: list[Difference]
    tuning: Tuning | None = None
    failed: list[str] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)


def read_comparison(source: Path) -> Comparison:
    """Reads a sweep's directory, which holds a comparison, or a comparison's.

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
    try:
        runs = _sweep_runs(source, sweep) if sweep else _runs(path, content)
        return Comparison(
            commands=[sweep["command"]] if sweep else list(content["commands"]),
            runs=runs,
            tuning_runs=[_run(source, p) for p in sweep.get("points", []) if _is(p, "tune")],
            arms=_values(content),
            references=content.get("references") or {},
            differences=[validated(Difference, one, path) for one in content["differences"]],
            tuning=validated(Tuning, sweep["tuning"], source / SWEEP) if sweep.get("tuning") else None,
            failed=[f"{p['run']}: {p.get('error') or p['status']}" for p in sweep.get("points", []) if not _done(p)],
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


def _values(content: dict[str, Any]) -> dict[str, dict[str, dict[int, float]]]:
    return {
        arm: {metric: {int(s): float(v) for s, v in seeds.items()} for metric, seeds in metrics.items()}
        for arm, metrics in content["arms"].items()
    }


def _sweep_runs(source: Path, sweep: dict[str, Any]) -> Runs:
    runs: Runs = {}
    for point in sweep["points"]:
        if _is(point, "final"):
            runs.setdefault(point["arm"], {})[int(point["seed"])] = _run(source, point)
    return runs


def _runs(path: Path, content: dict[str, Any]) -> Runs:
    return {
        arm: {int(seed): (path.parent / run) for seed, run in seeds.items()} for arm, seeds in content["runs"].items()
    }


def _run(source: Path, point: dict[str, Any]) -> Path:
    return source.resolve().parent / point["run"]


def _is(point: dict[str, Any], phase: str) -> bool:
    return point["phase"] == phase and _done(point)


def _done(point: dict[str, Any]) -> bool:
    return point["status"] == "done"
