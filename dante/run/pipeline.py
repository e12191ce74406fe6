"""A recipe is an ordered list of steps; this runs those that are not complete.

A step writes into `runs/.steps/<stage>-<fingerprint>.partial` and is renamed when it is complete; a run directory holds
relative links to the steps it uses. The fingerprint covers a step's settings and its inputs' fingerprints, not the
hardware, so runs that differ in a seed or in one loss share their cache and their initialisation.
"""

import importlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dante import console
from dante.errors import DanteError, StepFailed
from dante.run import directory, store
from dante.run.board import Board
from dante.run.config.check import is_chosen
from dante.run.parts import extensions_in, source_hash
from dante.run.renamed import first_names
from dante.run.stages import STAGES
from dante.run.step import PlannedStep, Step
from dante.system import interrupt, locks, os_errors, rank
from dante.system.environment import environment
from dante.system.files import STEP_FILE, fingerprint, write_json
from dante.system.interrupt import Interrupted


def plan_steps(cfg: dict[str, Any]) -> list[PlannedStep]:
    """The recipe's steps in order, with their fingerprints and directories. Writes nothing."""
    steps_dir = Path(cfg["run"]["dir"]).absolute().parent / directory.STORE
    planned: dict[str, PlannedStep] = {}
    for label, step in cfg["steps"].items():
        inputs = step.get("inputs") or {}
        identity = fingerprint(
            {
                "stage": step["stage"],
                "version": STAGES[step["stage"]].version,
                "settings": first_names(step["settings"]),
                "content": _content(step),
                **_extensions(step),
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
            directory=steps_dir / f"{step['stage'].replace('.', '_')}-{identity}",
        )
    return list(planned.values())


def _content(step: dict[str, Any]) -> Any:
    """Identity of what a step reads from outside the run, for the stages that read such things."""
    module = STAGES[step["stage"]].identity
    return importlib.import_module(module).content_identity(step["settings"]) if module else None


def _extensions(step: dict[str, Any]) -> dict[str, Any]:
    """Identity of the code that is not the lab's own; nothing where there is none."""
    hashes = extensions_in(step["settings"])
    if "." in step["stage"]:
        hashes |= {step["stage"]: source_hash(step["stage"])}
    return {"extensions": hashes} if hashes else {}


def run(cfg: dict[str, Any]) -> Path:
    """Run every step that is not complete (or `only` one) and return the run's directory.

    Raises:
        DanteError: the run exists with another configuration, is worked on by another process, lost its steps; a
            step's inputs are not complete; whatever a stage says of its input; an error of the operating system.
        StepFailed: a stage raised something else.
        Interrupted: a signal asked the run to stop.
    """
    recipe = _Recipe(cfg, plan_steps(cfg))
    if rank.of_this_process() == 0:
        recipe.lead()
    else:
        recipe.follow()
    return recipe.run_dir


class _Recipe:
    """The steps of one start, on one process."""

    def __init__(self, cfg: dict[str, Any], steps: list[PlannedStep]) -> None:
        self.cfg, self.steps = cfg, steps
        self.run_dir = Path(cfg["run"]["dir"]).absolute()
        self.by_label = {step.label: step for step in steps}
        self.chosen = [step for step in steps if is_chosen(cfg, step.label)]
        self.redo = cfg["on_existing"] == "overwrite"
        self.made: set[str] = set()  # labels whose files this process has just written
        self.processes = cfg["trainer"]["devices"] * cfg["trainer"]["num_nodes"]
        self.board = Board(self.run_dir, self.processes)

    def lead(self) -> None:
        """Rank 0: go through the recipe."""
        places = {step.label: step.directory.name for step in self.steps}
        held = directory.opened(self.run_dir, self.cfg, places)
        with _told(f"the run {self.cfg['run']['name']!r}", self.run_dir), held:
            self.board.clear()
            try:
                self._write_manifest()
                for step in self.chosen:
                    interrupt.check(f"before step {step.label!r}")
                    with _stopped_in(step):
                        self._provide(step, thorough=False)
                        directory.link(self.run_dir, step.label, step.directory)
                        self.board.tell(step.label, "ready")
                        self._write_manifest()
            except BaseException:
                self.board.tell_failure()
                raise

    def follow(self) -> None:
        """The other ranks: take part in the distributed stages; rank 0 says when, and whether at all."""
        shared = [number for number, step in enumerate(self.chosen, start=1) if STAGES[step.stage].every_rank]
        for step in self.chosen[: max(shared, default=0)]:
            if self.board.wait(step.label) == "run":
                with _stopped_in(step):
                    self._run_stage(step)

    def _provide(self, step: PlannedStep, *, thorough: bool) -> None:
        """Let a step be complete and sound: leave it, finish it, or make it again."""
        redo = self.redo and step.label not in self.made
        if not redo and not store.unsettled(step.directory) and self._sound(step, thorough=thorough):
            console.skipped(*self._place(step), step.directory)
            return
        self._check_inputs(step)
        step.directory.parent.mkdir(parents=True, exist_ok=True)
        with locks.hold(store.lock_of(step.directory), waiting=lambda owner: _say_waiting(step, owner)):
            store.settle(step.directory)
            if step.directory.exists() and not redo:
                damaged = store.damage(step.directory, thorough=thorough)
                if not damaged:
                    console.skipped(*self._place(step), step.directory)
                    return
                self._put_aside(step, damaged)
            if redo:  # the old result stays until the new one is complete
                shutil.rmtree(step.partial, ignore_errors=True)
            self._make(step)

    def _sound(self, step: PlannedStep, *, thorough: bool) -> bool:
        return step.directory.exists() and not store.damage(step.directory, thorough=thorough)

    def _check_inputs(self, step: PlannedStep) -> None:
        """Compare every input with its hashes before a stage reads it; a damaged one is made again first."""
        for label in dict.fromkeys(step.inputs.values()):
            source = self.by_label[label]
            if label in self.made or self._sound(source, thorough=True):
                continue
            if not source.directory.exists():
                raise DanteError(
                    f"step {step.label!r} needs {label!r}, which is not complete",
                    where=str(source.directory),
                    fix=f"run without `only`, or run that step first: only={label}",
                )
            if source not in self.chosen:
                wrong = ", ".join(store.damage(source.directory, thorough=True)[:3])
                raise DanteError(
                    f"step {step.label!r} reads {label!r}, whose {wrong} does not match its {STEP_FILE}",
                    where=str(source.directory),
                    fix=f"make it again: only={label} on_existing=overwrite",
                )
            self._provide(source, thorough=True)

    def _put_aside(self, step: PlannedStep, damaged: list[str]) -> None:
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        aside = store.put_aside(step.directory)
        console.note(
            f"{step.label}: {', '.join(damaged[:3])}{more} missing or changed since the step was finished; it is made "
            f"again, the damaged one lies in {console.short(aside)}"
        )

    def _make(self, step: PlannedStep) -> None:
        console.started(*self._place(step), resumed=step.partial.exists())
        step.partial.mkdir(exist_ok=True)
        if STAGES[step.stage].every_rank:
            self.board.tell(step.label, "run")
        start = time.perf_counter()
        self._run_stage(step)
        wall_s = time.perf_counter() - start
        with _told(f"step {step.label!r}", step.partial):
            store.publish(step.directory, self._describe(step, wall_s))
        self.made.add(step.label)
        console.finished(*self._place(step), wall_s, step.directory)

    def _run_stage(self, step: PlannedStep) -> None:
        with _told(f"step {step.label!r}", step.partial):
            try:
                _stage(step.stage)(self._materialise(step))
            except (Interrupted, DanteError, OSError):
                raise
            except Exception as error:
                dante_error = os_errors.as_dante_error(error, f"step {step.label!r}", step.partial)
                raise (dante_error or StepFailed(step.label)) from error

    def _place(self, step: PlannedStep) -> tuple[int, int, str]:
        return self.chosen.index(step) + 1, len(self.chosen), step.label

    def _describe(self, step: PlannedStep, wall_s: float) -> dict[str, Any]:
        return {
            "label": step.label,
            "stage": step.stage,
            "fingerprint": step.fingerprint,
            "settings": step.settings,
            "inputs": {name: self.by_label[label].fingerprint for name, label in step.inputs.items()},
            "wall_s": round(wall_s, 3),
            "environment": environment(),
        }

    def _materialise(self, step: PlannedStep) -> Step:
        return Step(
            label=step.label,
            stage=step.stage,
            settings=STAGES[step.stage].typed(step.settings),
            resources=step.resources,
            inputs={name: self.by_label[label].directory for name, label in step.inputs.items()},
            out=step.partial,
            fingerprint=step.fingerprint,
            seed=int(step.settings.get("seed", 0)),
        )

    def _write_manifest(self) -> None:
        write_json(
            self.run_dir / "manifest.json",
            {
                "run": self.cfg["run"]["name"],
                "experiment": self.cfg["experiment"],
                "seed": self.cfg["seed"],
                "environment": environment(),
                "steps": {step.label: _summary(step) for step in self.steps},
            },
        )


def _stage(name: str) -> Any:
    return importlib.import_module(STAGES[name].module).run


@contextmanager
def _told(doing: str, where: Path) -> Iterator[None]:
    """An error of the operating system in the body becomes one paragraph."""
    try:
        yield
    except OSError as error:
        dante_error = os_errors.as_dante_error(error, doing, where)
        assert dante_error is not None
        raise dante_error from error


@contextmanager
def _stopped_in(step: PlannedStep) -> Iterator[None]:
    """A stop in the body names the step, unless the stage has said more exactly where it stopped."""
    try:
        yield
    except Interrupted as stop:
        stop.where = stop.where or f"in step {step.label!r}"
        raise


def _say_waiting(step: PlannedStep, owner: str) -> None:
    console.note(f"{step.label}: {owner} is making this step for another run; waiting for it")


def _summary(step: PlannedStep) -> dict[str, Any]:
    description = store.read_description(step.directory)
    return {
        "stage": step.stage,
        "fingerprint": step.fingerprint,
        "inputs": step.inputs,
        "complete": description is not None,
        "wall_s": description.get("wall_s") if description else None,
    }
