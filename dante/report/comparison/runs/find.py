"""Paths → the runs to compare, and the points of sweeps that cannot be compared because they failed or are missing."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.system.files import read_json

SWEEP_FILE = "sweep.json"
Json = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """A run to compare.

    Attributes:
        path: its directory.
        arm: what the sweep calls its arm; None outside a sweep.
        seed: from the sweep, or None: then its configuration has it.
        overrides: from the sweep, or None.
        sweep: name of the sweep, or None.
        levels: factor → level, from a factorial sweep; or None.
    """

    path: Path
    arm: str | None = None
    seed: int | None = None
    overrides: tuple[str, ...] | None = None
    sweep: str | None = None
    levels: dict[str, str] | None = None


@dataclass(frozen=True)
class Absent:
    """A point of a sweep that is not compared, and why."""

    run: str
    arm: str
    seed: int | None
    phase: str
    why: str


@dataclass(frozen=True)
class Found:
    """All points, in the order given, each directory once."""

    points: list[Point] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    sweeps: list[Json] = field(default_factory=list)


def find(paths: Sequence[Path], *, evaluated: bool = True) -> Found:
    """The runs that the paths name: directories of runs and of sweeps, or a sweep's file.

    Args:
        paths: of runs and sweeps.
        evaluated: whether a run without an evaluation is absent.

    Raises:
        DanteError: a path is neither, a sweep's file is damaged, or there is nothing to compare.
    """
    found_runs, seen = Found(), set[Path]()
    for path in paths:
        for point in _points(path, found_runs, evaluated):
            if point.path.resolve() not in seen:
                seen.add(point.path.resolve())
                found_runs.points.append(point)
    if not found_runs.points:
        lost = f": {found_runs.absent[0].run} {found_runs.absent[0].why}" if found_runs.absent else ""
        raise DanteError(
            f"there is no finished run to compare{lost}",
            where=", ".join(map(str, paths)) or "no path was given",
            allowed="directories of runs or of sweeps",
            fix="python -m dante.report compare runs/A runs/B",
        )
    return found_runs


def _points(path: Path, found_runs: Found, evaluated: bool) -> list[Point]:
    if path.name == SWEEP_FILE and path.is_file():
        path = path.parent
    if (path / SWEEP_FILE).is_file():
        return _of_sweep(path, found_runs, evaluated)
    if (path / "config.yaml").is_file():
        if evaluated and not (path / "eval" / "eval.json").is_file() and not _evaluated(path):
            raise DanteError(
                f"the run {path.name} has not been evaluated",
                where=str(path / "eval" / "eval.json"),
                allowed="runs whose eval step is complete",
                fix="run its eval step: the same command again, or only=eval",
            )
        return [Point(path)]
    raise DanteError(
        f"{path} is no run and no sweep" if path.exists() else f"{path} does not exist",
        where=str(path),
        allowed=f"a directory with config.yaml (a run) or {SWEEP_FILE} (a sweep)",
        fix=_suggestion(path),
    )


def _of_sweep(path: Path, found_runs: Found, evaluated: bool) -> list[Point]:
    sweep = read_json(path / SWEEP_FILE)
    points = []
    try:
        for entry in sweep["points"]:
            run = Path(os.path.normpath(path / entry.get("directory", f"../{entry['run']}")))
            arm, seed, phase = str(entry["arm"]), entry.get("seed"), entry.get("phase", "final")
            why = _why_absent(entry, run, evaluated)
            if why:
                found_runs.absent.append(Absent(entry["run"], arm, seed, phase, why))
            elif phase == "final":
                overrides = tuple(entry.get("overrides") or ())
                points.append(Point(run, arm, seed, overrides, sweep["sweep"], entry.get("levels")))
    except (KeyError, TypeError, AttributeError) as error:
        raise DanteError(
            f"the sweep's file is damaged: {type(error).__name__} {error}",
            where=str(path / SWEEP_FILE),
            allowed="what the sweeper writes",
            fix="run the sweep's command again; finished points are not repeated",
        ) from None
    found_runs.sweeps.append(sweep)
    return points


def _why_absent(entry: Json, run: Path, evaluated: bool) -> str:
    status = entry.get("status", "done")
    if status == "failed":
        lines = str(entry.get("error") or "").strip().splitlines()
        return f"failed: {lines[-1]}" if lines else "failed"
    if status != "done":
        return "has not been run" if status == "pending" else f"is {status}"
    if not (run / "config.yaml").is_file():
        return "is done, but its directory is gone"
    wanted = evaluated and entry.get("phase") != "tune"
    return "has no evaluation" if wanted and not _evaluated(run) else ""


def _evaluated(run: Path) -> bool:
    return any((folder / "eval.json").is_file() for folder in run.iterdir() if folder.is_dir())


def _suggestion(path: Path) -> str:
    if not path.is_dir():
        return "check the path"
    inside = sorted(p.name for p in path.iterdir() if (p / "config.yaml").is_file() or (p / SWEEP_FILE).is_file())
    return f"name what lies in it, for example {path / inside[0]}" if inside else "name a run's directory"
