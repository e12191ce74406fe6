"""A recipe is an ordered list of steps; this runs those that are not complete.

A step writes into `runs/.steps/<stage>-<fingerprint>.partial` and is renamed when it is complete; a run directory holds
relative links to the steps it uses. The fingerprint covers a step's settings and its inputs' fingerprints, not the
hardware, so runs that differ in a seed or in one loss share their cache and their initialisation.
"""

import importlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from dante import console, distributed
from dante.errors import DanteError
from dante.manifest import (
    STEP_FILE,
    describe_files,
    environment,
    fingerprint,
    missing_or_changed,
    read_json,
    write_json,
)

# stage → (module with `run(step)`, version of what it writes: raise it when the same settings give another result).
_STAGES = {
    "teacher": ("dante.teachers.stage", 1),
    "cache": ("dante.cache.stage", 1),
    "init": ("dante.students.stage", 1),
    "fit": ("dante.fit.stage", 1),
    "release": ("dante.release", 1),
    "score": ("dante.evaluate.score_stage", 1),
    "eval": ("dante.evaluate.stage", 2),
    "report": ("dante.report.stage", 1),
}
# Stages that every rank of a distributed run takes part in; the others run on rank 0 while the rest wait.
_ON_ALL_RANKS = {"fit"}
# Stages whose settings name files outside the run.
_READS_OUTSIDE = {"cache"}
# Keys that may differ between two starts of the same run: where it runs and how, not what it computes.
_NOT_IDENTITY = {"only", "on_existing", "dry_run", "trainer", "logger", "run"}


@dataclass(frozen=True)
class Step:
    """What a stage is given: its settings, the finished directories it reads, and the directory it writes.

    Attributes:
        label: unique name in the recipe (`fit`, `fit-low_t`).
        stage: which stage runs it.
        settings: resolved plain containers; part of the fingerprint.
        resources: resolved plain containers; devices, interpreters, loggers: not part of the fingerprint.
        inputs: finished step directories by input name.
        out: the `.partial` directory to write; may hold what an interrupted attempt left.
        fingerprint: identity of settings and inputs.
        seed: `settings["seed"]`, or 0 for a step whose settings name none.
    """

    label: str
    stage: str
    settings: dict[str, Any]
    resources: dict[str, Any]
    inputs: dict[str, Path]
    out: Path
    fingerprint: str
    seed: int


@dataclass(frozen=True)
class PlannedStep:
    """A step of a recipe before it runs. `directory` is where it will lie, or lies, when complete."""

    label: str
    stage: str
    settings: dict[str, Any]
    resources: dict[str, Any]
    inputs: dict[str, str]
    fingerprint: str
    directory: Path

    @property
    def partial(self) -> Path:
        return self.directory.with_name(self.directory.name + ".partial")

    @property
    def complete(self) -> bool:
        return (self.directory / STEP_FILE).is_file()


def plan_steps(cfg: dict[str, Any]) -> list[PlannedStep]:
    """The recipe's steps in order, with their fingerprints and directories. Writes nothing."""
    store = Path(cfg["run"]["dir"]).absolute().parent / ".steps"
    planned: dict[str, PlannedStep] = {}
    for label, step in cfg["steps"].items():
        inputs = step.get("inputs") or {}
        identity = fingerprint(
            {
                "stage": step["stage"],
                "version": _STAGES[step["stage"]][1],
                "settings": step["settings"],
                "content": _content(step),
                "inputs": {name: planned[source].fingerprint for name, source in inputs.items()},
            }
        )
        planned[label] = PlannedStep(
            label=label,
            stage=step["stage"],
            settings=step["settings"],
            resources=step.get("resources") or {},
            inputs=inputs,
            fingerprint=identity,
            directory=store / f"{step['stage']}-{identity}",
        )
    return list(planned.values())


def _content(step: dict[str, Any]) -> Any:
    """Identity of what a step reads from outside the run, for the stages that read such things."""
    if step["stage"] not in _READS_OUTSIDE:
        return None
    return importlib.import_module(_STAGES[step["stage"]][0]).content_identity(step["settings"])


def run(cfg: dict[str, Any]) -> Path:
    """Run every step that is not complete (or `only` one) and return the run's directory.

    Raises:
        DanteError: the run exists with another configuration, is locked, or a step's inputs are not complete.
    """
    steps = plan_steps(cfg)
    run_dir = Path(cfg["run"]["dir"]).absolute()
    if distributed.rank() == 0:
        _prepare_run(run_dir, cfg)
    chosen = [s for s in steps if cfg["only"] in (None, s.label)]
    by_label = {s.label: s for s in steps}
    for number, step in enumerate(chosen, start=1):
        if distributed.rank() != 0:
            _follow(step, by_label)
            continue
        redo = cfg["on_existing"] == "overwrite"
        if step.complete and not redo:
            wrong = missing_or_changed(step.directory)
            if not wrong:
                console.skipped(number, len(chosen), step.label, step.directory)
                _link(run_dir, step)
                continue
            console.note(f"{step.label}: {', '.join(wrong[:3])} missing or of another size; made again")
            redo = True
        _run_one(step, by_label, number, len(chosen), redo=redo)
        _link(run_dir, step)
        _write_run_manifest(run_dir, cfg, steps)
    if distributed.rank() == 0:
        _write_run_manifest(run_dir, cfg, steps)
    return run_dir


def _run_one(planned: PlannedStep, by_label: dict[str, PlannedStep], number: int, total: int, *, redo: bool) -> None:
    planned.directory.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(planned.directory.with_name(f".{planned.directory.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DanteError(
            f"step {planned.label!r} is being made by another process",
            where=str(planned.partial),
            fix="wait for it and run the same command again",
        ) from None
    with lock:
        if redo:  # the old result stays until the new one is complete
            shutil.rmtree(planned.partial, ignore_errors=True)
        elif planned.complete:  # made by another process between the look and the lock
            return
        console.started(number, total, planned.label, resumed=planned.partial.exists())
        planned.partial.mkdir(exist_ok=True)
        step = _materialise(planned, by_label)
        start = time.perf_counter()
        _stage(planned.stage)(step)
        wall_s = time.perf_counter() - start
        write_json(planned.partial / STEP_FILE, _describe(planned, by_label, wall_s))
        shutil.rmtree(planned.directory, ignore_errors=True)
        planned.partial.rename(planned.directory)
        console.finished(number, total, planned.label, wall_s, planned.directory)


def _describe(planned: PlannedStep, by_label: dict[str, PlannedStep], wall_s: float) -> dict[str, Any]:
    return {
        "label": planned.label,
        "stage": planned.stage,
        "fingerprint": planned.fingerprint,
        "settings": planned.settings,
        "inputs": {name: by_label[label].fingerprint for name, label in planned.inputs.items()},
        "wall_s": round(wall_s, 3),
        "environment": environment(),
        "files": describe_files(planned.partial),
    }


def _materialise(planned: PlannedStep, by_label: dict[str, PlannedStep]) -> Step:
    for label in planned.inputs.values():
        if not by_label[label].complete:
            raise DanteError(
                f"step {planned.label!r} needs {label!r}, which is not complete",
                where=str(by_label[label].directory),
                fix="run without `only`, or run that step first: only=" + label,
            )
    return Step(
        label=planned.label,
        stage=planned.stage,
        settings=planned.settings,
        resources=planned.resources,
        inputs={name: by_label[label].directory for name, label in planned.inputs.items()},
        out=planned.partial,
        fingerprint=planned.fingerprint,
        seed=int(planned.settings.get("seed", 0)),
    )


def _stage(name: str) -> Any:
    return importlib.import_module(_STAGES[name][0]).run


def _follow(planned: PlannedStep, by_label: dict[str, PlannedStep], poll_s: float = 0.5) -> None:
    """What ranks other than 0 do: take part in a distributed stage, wait for every other."""
    if planned.stage in _ON_ALL_RANKS and not planned.complete:
        while not planned.partial.is_dir():
            time.sleep(poll_s)
        _stage(planned.stage)(_materialise(planned, by_label))
        return
    while planned.stage not in _ON_ALL_RANKS and not planned.complete and _needed_later(planned, by_label):
        time.sleep(poll_s)


def _needed_later(planned: PlannedStep, by_label: dict[str, PlannedStep]) -> bool:
    """Whether a distributed stage that is not complete still reads this step, directly or not."""
    return any(
        planned.label in step.inputs.values() and (step.stage in _ON_ALL_RANKS or _needed_later(step, by_label))
        for step in by_label.values()
        if not step.complete
    )


def _prepare_run(run_dir: Path, cfg: dict[str, Any]) -> None:
    stored = run_dir / "config.yaml"
    if stored.is_file():
        if cfg["on_existing"] == "error":
            raise DanteError(
                f"the run {cfg['run']['name']!r} exists",
                where=str(run_dir),
                fix="on_existing=resume to continue it, on_existing=overwrite to redo it, or another run.name",
            )
        differing = _differences(yaml.safe_load(stored.read_text(encoding="utf-8")) or {}, cfg)
        if differing and cfg["on_existing"] == "resume":
            shown = "; ".join(differing[:8]) + (f"; and {len(differing) - 8} more" if len(differing) > 8 else "")
            raise DanteError(
                f"the run {cfg['run']['name']!r} was started with another configuration: {shown}",
                where=str(stored),
                fix=f"run.name={cfg['run']['name']}-2 for a run of its own, or on_existing=overwrite",
            )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        stored.write_text(yaml.safe_dump(cfg, sort_keys=False, allow_unicode=True), encoding="utf-8")
    except OSError as error:
        raise DanteError(
            f"the run's directory cannot be written: {error.strerror}", where=str(run_dir), fix="set run.dir"
        ) from None


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """`key: old → new` for every leaf in which two configurations differ and that is part of a run's identity."""
    before, after = (dict(_leaves({k: v for k, v in c.items() if k not in _NOT_IDENTITY})) for c in (old, new))
    return [
        f"{key}: {before.get(key, 'absent')} → {after.get(key, 'absent')}"
        for key in [*after, *(k for k in before if k not in after)]
        if before.get(key, "absent") != after.get(key, "absent") and not key.startswith("steps.")
    ]


def _leaves(node: Any, path: str = "") -> Any:
    if isinstance(node, dict) and node:
        for key, child in node.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, list(node) if isinstance(node, tuple) else node


def _link(run_dir: Path, step: PlannedStep) -> None:
    link = run_dir / step.label
    target = os.path.relpath(step.directory, run_dir)
    if link.is_symlink():
        if os.readlink(link) == target:
            return
        link.unlink()
    link.symlink_to(target)


def _write_run_manifest(run_dir: Path, cfg: dict[str, Any], steps: list[PlannedStep]) -> None:
    write_json(
        run_dir / "manifest.json",
        {
            "run": cfg["run"]["name"],
            "experiment": cfg["experiment"],
            "seed": cfg["seed"],
            "environment": environment(),
            "steps": {s.label: _summary(s) for s in steps},
        },
    )


def _summary(step: PlannedStep) -> dict[str, Any]:
    known = read_json(step.directory / STEP_FILE) if step.complete else {}
    return {
        "stage": step.stage,
        "fingerprint": step.fingerprint,
        "inputs": step.inputs,
        "complete": step.complete,
        "wall_s": known.get("wall_s"),
    }
