"""Hydra's sweeper of this lab: plan all points, start those that are not finished, compare what came out."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from dante import console, locks
from dante.errors import DanteError, PointsFailed
from dante.sweep import arguments as command_line
from dante.sweep import screen
from dante.sweep.plan import plan_point, refuse_shared_directories, shared_compute, sweep_folder
from dante.sweep.points import NAME, Listed, Point, arms, grid_of, overrides_of, seeded
from dante.sweep.process import POINT, SWEEPER
from dante.sweep.record import PlannedPoint, SweepRecord, is_finished
from dante.sweep.settings import SweepSettings, sweep_settings
from dante.sweep.tuning import NEEDED, Choices

# Launchers whose workers are children of this process, and of no use without it.
_OWN_WORKERS = ("JoblibLauncher",)


class GridSweep(Sweeper):
    """The product of factors, listed values and seeds, with or without equal tuning; see `SweepSettings`."""

    def __init__(self, **nodes: Any) -> None:
        self.nodes = nodes  # checked in `setup`: Hydra would hide what is wrong with them behind its own error

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.settings: SweepSettings = sweep_settings(**self.nodes)
        self.context = hydra_context
        self.master: DictConfig = config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> SweepRecord:
        """Run the sweep, then compare its runs.

        Raises:
            DanteError: the sweep is not well described, or another process runs it.
            PointsFailed: at its end, if a point has no result.
        """
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        params = [f"{key}={value}" for key, value in self.settings.params.items()]
        self.listed = Listed(parser.parse_overrides(params), parser.parse_overrides(arguments))
        self.batch = 0
        first = self._first_points()
        record = SweepRecord(
            folder=sweep_folder(first, self.settings.name, self.listed),
            command=command_line.typed(),
            baseline=self.settings.baseline,
            compute=shared_compute(first),
            points=first,
        )
        screen.plan(record, self.settings)
        if any(point.config is not None and point.config["dry_run"] for point in first):
            return record
        with _alone(record):
            self._run(record, first)
            self._go_on(record)
            record.write()
            screen.result(record)
        if any(point.status != "done" for point in record.points):
            raise PointsFailed
        return record

    def _first_points(self) -> list[PlannedPoint]:
        """The points that can be named before anything has run: all, or those of the tuning."""
        found: list[Point] = []
        self.arms = list(arms(self.settings, self.listed))
        tune = self.settings.tune
        for arm in self.arms:
            if tune is None:
                found += seeded(arm, self.listed.seeds())
                continue
            [tuning] = seeded(arm, [str(tune.seed)])
            found += [
                tuning.with_tuned(values, [NEEDED, *overrides_of(tune.overrides)], "tune")
                for values in grid_of(self.settings)
            ]
        return self._planned(found)

    def _go_on(self, record: SweepRecord) -> None:
        """After tuning: every arm at its choice, with every seed."""
        tune = self.settings.tune
        if tune is None:
            return
        choices = Choices(grid_of(self.settings), tune.seed, record.points)
        record.tuning = choices.summary()
        screen.choices(choices)
        found, lost = [], []
        for arm in self.arms:
            best = choices.best(arm.arm_name)
            if best is None:
                lost.append(arm.arm_name)
                continue
            found += [point.with_tuned(best, [NEEDED], "final") for point in seeded(arm, self.listed.seeds())]
        final = self._planned(found)
        for arm_name in lost:
            why = "none of its tuning runs finished"
            final.append(PlannedPoint(arm_name, arm_name, None, "final", {}, [], None, "failed", why))
        record.points += final
        record.write()
        self._run(record, final)

    def _planned(self, points: Sequence[Point]) -> list[PlannedPoint]:
        own_name = self.listed.holds(NAME)
        planned = []
        with console.screen().status("checking all points"):
            for point in points:
                name = self.settings.name
                # A tuning run with an evaluation of its own is not the run that is reported on.
                if point.phase == "tune" and self.settings.tune and self.settings.tune.overrides:
                    name = f"{name}-tune" if name else "tune"
                planned.append(plan_point(point, self._compose, name, own_name))
        refuse_shared_directories(planned)
        return planned

    def _compose(self, overrides: list[str]) -> DictConfig:
        composed = self.context.config_loader.load_sweep_config(self.master, overrides)
        with open_dict(composed):
            composed.pop("hydra", None)
        return composed

    def _run(self, record: SweepRecord, points: Sequence[PlannedPoint]) -> None:
        """Start the points that are not finished, all at once: the launcher decides how many run at a time."""
        for point in points:
            if point.config is not None and is_finished(point.config):
                point.status = "done"
        record.write()
        waiting = [point for point in points if point.status == "pending"]
        if not waiting:
            return
        try:
            outcomes = self._launch(waiting)
        except Exception as error:  # the launcher itself: its workers, or the queue, are gone
            for point in waiting:
                assert point.config is not None
                done = is_finished(point.config)
                point.status = "done" if done else "failed"
                point.error = None if done else f"the launcher failed: {type(error).__name__}: {error}"
        else:
            for point, outcome in zip(waiting, outcomes, strict=True):
                _take(point, outcome)
        record.write()

    def _launch(self, points: Sequence[PlannedPoint]) -> Sequence[JobReturn]:
        environment = {SWEEPER: str(os.getpid())} if type(self.launcher).__name__ in _OWN_WORKERS else {}
        jobs = []
        for number, point in enumerate(points, start=1):
            told = environment | {POINT: f"{number}/{len(points)}"}
            jobs.append([*point.overrides, *(f"+hydra.job.env_set.{key}='{value}'" for key, value in told.items())])
        first, self.batch = self.batch, self.batch + len(jobs)
        return self.launcher.launch(jobs, initial_job_idx=first)


def _take(point: PlannedPoint, outcome: JobReturn) -> None:
    if outcome.status == JobStatus.COMPLETED:
        point.status = "done"
        return
    # `return_value` would print the frames that led here.
    point.status, point.error = "failed", str(outcome._return_value)


@contextmanager
def _alone(record: SweepRecord) -> Iterator[None]:
    record.folder.mkdir(parents=True, exist_ok=True)
    try:
        with locks.hold(record.folder / ".lock"):
            yield
    except locks.Busy as busy:
        raise DanteError(
            f"the sweep {record.folder.name!r} is being run by {busy}",
            where=str(record.folder),
            fix="wait until that has ended, or stop it",
        ) from None
