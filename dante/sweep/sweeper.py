"""Hydra's sweeper of this lab: plan all points, start those that are not finished, compare what came out."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write

from dante import console
from dante.errors import DanteError, PointsFailed
from dante.sweep import arguments as command_line
from dante.sweep import lost_jobs, screen, stop
from dante.sweep.plan import (
    plan_point,
    refuse_overwriting,
    refuse_shared_directories,
    refuse_tuned_and_listed,
    refuse_unknown_baseline,
    refuse_without_validation,
    shared_compute,
    sweep_folder,
)
from dante.sweep.points import NAME, Listed, Point, arms, overrides_of, seeded
from dante.sweep.process import POINT, SWEEPER
from dante.sweep.proposals import proposals, refuse_unclear
from dante.sweep.record import PlannedPoint, SweepRecord, is_finished
from dante.sweep.settings import SweepSettings, sweep_settings
from dante.sweep.stop import STOP
from dante.sweep.tuning import NEEDED, Choices
from dante.system import locks

# Launchers whose workers are children of this process, and of no use without it.
_OWN_WORKERS = ("JoblibLauncher",)


class GridSweep(Sweeper):
    """The product of factors, listed values and seeds, with or without equal tuning; see `SweepSettings`."""

    def __init__(self, **nodes: Any) -> None:
        self.nodes = nodes  # checked in `setup`: Hydra would hide what is wrong with them behind its own error

    def setup(self, *, hydra_context: HydraContext, task_function: Callable[[Any], Any], config: DictConfig) -> None:
        self.settings: SweepSettings = sweep_settings(**self.nodes)
        self.context = hydra_context
        self.master = _for_points(config)
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=self.master
        )

    def sweep(self, arguments: list[str]) -> SweepRecord:
        """Run the sweep, then compare its runs.

        Raises:
            DanteError: the sweep is not well described, or another process runs it.
            PointsFailed: at its end, if a point has no result.
        """
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        params = parser.parse_overrides(overrides_of(self.settings.params))
        self.tune = self.settings.tune
        self.listed = Listed(params, parser.parse_overrides(arguments), search=self.tune is not None)
        if self.tune:
            self.tune = self.tune.model_copy(update={"search": {**self.tune.search, **self.listed.ranges}})
            refuse_unclear(self.tune)
            refuse_tuned_and_listed(self.tune, self.listed)
        self.batch = 0
        self.arms = list(arms(self.settings, self.listed))
        refuse_unknown_baseline(self.settings.baseline, [arm.arm_name for arm in self.arms])
        # Without tuning these are all points; with it, they tell where the sweep lies and whether its arms compose.
        planned_points = self._planned([point for arm in self.arms for point in self._seeded(arm)])
        refuse_overwriting(planned_points)
        if self.tune:
            refuse_without_validation(planned_points)
        record = SweepRecord(
            folder=sweep_folder(planned_points, self.settings, self.listed),
            command=command_line.typed(),
            baseline=self.settings.baseline,
            compute=shared_compute(planned_points),
        )
        screen.plan(record, planned_points, self.tune, self.listed.seeds())
        if any(point.config is not None and point.config["dry_run"] for point in planned_points):
            if any(point.error for point in planned_points):
                raise PointsFailed
            return record
        with _alone(record):
            self._run(record, planned_points if self.tune is None else self._tuned(record))
            record.write()
            screen.result(record)
        if any(point.status != "done" for point in record.points):
            raise PointsFailed
        return record

    def _seeded(self, arm: Point) -> list[Point]:
        if self.tune is None:
            return seeded(arm, self.listed.seeds())
        return seeded(arm, [str(self.tune.seed)])

    def _tuned(self, record: SweepRecord) -> list[PlannedPoint]:
        """Tune, wave by wave; then every arm at its choice, with every seed."""
        assert self.tune is not None
        source, choices = proposals(self.tune, record.folder), Choices()
        changes = [NEEDED, *overrides_of(self.tune.overrides)]
        while wave := [
            point.with_tuned(values, changes, "tune")
            for arm in self.arms
            for values in source.next(arm.arm_name)
            for point in self._seeded(arm)
        ]:
            planned = self._planned(wave)
            self._run(record, planned)
            for point in planned:
                source.tell(point.arm, point.tuned, choices.take(point))
            record.tuning = choices.summary(self.tune)
            record.write()
        screen.choices(choices, self.tune)
        final, lost = [], []
        for arm in self.arms:
            best = choices.best(arm.arm_name)
            if best is None:
                why = "none of its tuning runs finished"
                lost.append(
                    PlannedPoint(arm.arm_name, arm.arm_name, None, "final", arm.levels(), {}, [], None, "failed", why)
                )
            else:
                final += [point.with_tuned(best, [NEEDED], "final") for point in seeded(arm, self.listed.seeds())]
        return [*self._planned(final), *lost]

    def _planned(self, points: Sequence[Point]) -> list[PlannedPoint]:
        own_name = self.listed.holds(NAME)
        planned = []
        with console.screen().status("checking all points"):
            for point in points:
                name = self.settings.name
                # A tuning run with an evaluation of its own is not the run that is reported on.
                if point.phase == "tune" and self.tune and self.tune.overrides:
                    name = f"{name}-tune" if name else "tune"
                planned.append(plan_point(point, self._compose, name, own_name))
            for run in planned:
                if run.config is not None and is_finished(run.config):
                    run.status = "done"
        refuse_shared_directories(planned)
        return planned

    def _compose(self, overrides: list[str]) -> DictConfig:
        composed = self.context.config_loader.load_sweep_config(self.master, overrides)
        with open_dict(composed):
            composed.pop("hydra", None)
        return composed

    def _run(self, record: SweepRecord, points: Sequence[PlannedPoint]) -> None:
        """Start the points that are not finished, all at once: the launcher decides how many run at a time."""
        record.points += points
        record.write()
        waiting = [point for point in points if point.status == "pending"]
        if not waiting:
            return
        try:
            outcomes = self._launch(waiting, record.folder)
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

    def _launch(self, points: Sequence[PlannedPoint], folder: Path) -> Sequence[JobReturn]:
        own_workers = type(self.launcher).__name__ in _OWN_WORKERS
        file = folder / ".stop"
        worker_environment = {SWEEPER: str(os.getpid()), STOP: str(file)} if own_workers else {}
        jobs = []
        for number, point in enumerate(points, start=1):
            environment = worker_environment | {POINT: f"{number}/{len(points)}"}
            jobs.append([*point.overrides, *(f"+hydra.job.env_set.{k}='{v}'" for k, v in environment.items())])
        first, self.batch = self.batch, self.batch + len(jobs)
        with stop.through(file) if own_workers else nullcontext(), lost_jobs.are_failures():
            return self.launcher.launch(jobs, initial_job_idx=first)


def _for_points(config: DictConfig) -> DictConfig:
    """The sweep's configuration as its points are composed with: without what was typed of the sweep itself.

    Hydra would repeat it for every point, where there is no named sweep and perhaps another launcher to set it in.
    """
    point_config = config.copy()
    kept = [override for override in point_config.hydra.overrides.hydra if override.startswith("hydra.searchpath")]
    with read_write(point_config), open_dict(point_config):
        point_config.hydra.overrides.hydra = kept
    return point_config


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
