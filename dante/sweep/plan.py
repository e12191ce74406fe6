"""Points → runs: each is composed and checked, and gets its name and directory, before the first one starts."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dante.errors import DanteError, did_you_mean
from dante.run.config.check import check, is_chosen
from dante.sweep.points import NAME, Listed, Point, bare, shortened
from dante.sweep.record import PlannedPoint
from dante.sweep.settings import SweepSettings, Tune

Compose = Callable[[list[str]], DictConfig]
# Where and how a sweep runs, not what: they do not change its name.
_NOT_IDENTITY = {"only", "on_existing", "dry_run", "logger", "trainer", "decided"}


def plan_point(point: Point, compose: Compose, sweep: str | None, own_name: bool) -> PlannedPoint:
    """The run of a point; one that cannot be composed or checked is failed, and says why.

    Args:
        point: what to run.
        compose: overrides → composed configuration.
        sweep: name of a named sweep, which its runs carry; None: runs are named as if started alone.
        own_name: whether the command line names the runs itself.
    """
    overrides = list(point.overrides)
    seed, name = None, ""
    try:
        composed = compose(overrides)
        seed, name = OmegaConf.select(composed, "seed"), str(OmegaConf.select(composed, NAME))
        if not own_name:
            scale = OmegaConf.select(composed, "where.scale")
            name = shortened(_name(point, name, seed, f"{sweep}-{scale}" if sweep else None))
            overrides.append(f"{NAME}='{name}'")
            OmegaConf.update(composed, NAME, name)
        config, error = check(composed), None
    except DanteError as problem:
        config, error = None, str(problem)
    except Exception as problem:
        from dante.run.config.hydra_errors import as_dante_error

        dante_error = as_dante_error(problem, overrides, Path("conf"))
        if dante_error is None:
            raise
        config, error = None, str(dante_error)
    return PlannedPoint(
        run=name or shortened(point.arm_name),
        arm=point.arm_name,
        seed=seed,
        phase=point.phase,
        levels=point.levels(),
        tuned=point.tuned,
        overrides=overrides,
        config=config,
        status="failed" if error else "pending",
        error=error,
    )


def _name(point: Point, alone: str, seed: Any, prefix: str | None) -> str:
    """`sft-pocket-s1` as if it were started alone, `sft-pocket,clip=0.5-s1`, or `<sweep>-<scale>-<arm>-lr=1e-3-s1`."""
    if prefix:
        arm = point.arm_name if point.arm else ""
        return "-".join([part for part in (prefix, arm, *point.tuned_parts(), f"s{seed}") if part])
    extras = point.extras()
    if not extras:
        return alone
    return f"{alone.removesuffix(f'-s{seed}')},{extras}-s{seed}"


def refuse_shared_directories(points: Sequence[PlannedPoint]) -> None:
    """Two points in one directory would overwrite each other.

    Raises:
        DanteError: naming both.
    """
    seen: dict[Path, PlannedPoint] = {}
    for point in points:
        if point.config is None:
            continue
        other = seen.setdefault(point.run_dir, point)
        if other is not point and other.config != point.config:
            raise DanteError(
                f"two points of the sweep would both be the run {point.run_dir.name!r}",
                where="run.dir" if point.run != other.run else NAME,
                allowed="a name and a directory for every point",
                fix="leave run.name and run.dir to the sweep, or let them contain what differs: 'run.name=x-${seed}'",
            )


def refuse_tuned_and_listed(tune: Tune, listed: Listed) -> None:
    """What is tuned is chosen, and not listed as well.

    Raises:
        DanteError: a tuned key is on the command line, or in `params`.
    """
    for key in tune.keys:
        if listed.holds(key):
            raise DanteError(
                f"{key} is tuned by this sweep, and set as well",
                where=f"hydra.sweeper.tune: {key}",
                fix=f"leave {key} out, or turn tuning off: hydra.sweeper.tune=null",
            )


def refuse_unknown_baseline(baseline: str | None, arms: Sequence[str]) -> None:
    """The arm that the others are compared with has to be one.

    Raises:
        DanteError: it is none.
    """
    if baseline is not None and baseline not in arms:
        raise DanteError(
            f"the baseline {baseline!r} is none of the sweep's arms",
            where="hydra.sweeper.baseline",
            allowed=", ".join(arms),
            fix=did_you_mean(baseline, list(arms))
            or "name one of them, or leave the choice: hydra.sweeper.baseline=null",
        )


def shared_compute(points: Sequence[PlannedPoint]) -> dict[str, Any] | None:
    """The compute budget of all points; None where none has one.

    Raises:
        DanteError: some points have another budget than others.
    """
    budgets = [p.config["budget"].get("compute") for p in points if p.config is not None]
    if any(budget != budgets[0] for budget in budgets):
        shown = " and ".join(sorted({str(budget) for budget in budgets}))
        raise DanteError(
            f"the points of a sweep at equal compute have different budgets: {shown}",
            where="budget.compute",
            allowed="one budget for all points, or none",
            fix="set the budget once, outside of what is swept",
        )
    shared = budgets[0] if budgets else None
    return None if shared is None or shared["unit"] == "epochs" else shared


def refuse_overwriting(points: Sequence[PlannedPoint]) -> None:
    """Points that share steps would each make them again, under the hands of those that read them.

    Raises:
        DanteError: on_existing=overwrite is set.
    """
    if any(point.config is not None and point.config["on_existing"] == "overwrite" for point in points):
        raise DanteError(
            "on_existing=overwrite in a sweep: every point would make the steps that all share again",
            where="on_existing",
            allowed="resume, error",
            fix="give the sweep another name (hydra.sweeper.name=NAME), or delete the steps that shall be made again",
        )


def refuse_without_validation(points: Sequence[PlannedPoint]) -> None:
    """What is tuned is chosen on validation answers: they have to exist, and to be scored.

    Raises:
        DanteError: a cache has none, or `only` leaves the evaluation out.
    """
    for point in points:
        config = point.config
        if config is None:
            continue
        if config["cache"]["source"].get("validation") == 0:
            raise DanteError(
                "this sweep chooses by validation answers, and the cache keeps none",
                where="cache.source.validation",
                fix="cache.source.validation=200",
            )
        stages = {step["stage"] for label, step in config["steps"].items() if is_chosen(config, label)}
        if "eval" not in stages:
            raise DanteError(
                "this sweep chooses by validation answers, and `only` leaves the evaluation out",
                where="only",
                fix="add the step eval (with eval-teacher and eval-init) to `only`",
            )


def sweep_folder(points: Sequence[PlannedPoint], settings: SweepSettings, listed: Listed) -> Path:
    """The sweep's directory, beside its runs; a sweep without a name gets one that is always the same for it."""
    parents = {point.run_dir.parent for point in points if point.config is not None}
    if len(parents) != 1:
        if not parents:
            raise DanteError(f"no point of the sweep can be run. The first, {points[0].run}: {points[0].error}")
        raise DanteError(
            "the points' runs lie in different directories",
            where="run.dir",
            fix="let run.dir differ in its last part alone",
        )
    scales = {point.config["where"]["scale"] for point in points if point.config is not None}
    if settings.name:
        return parents.pop() / (f"{settings.name}-{scales.pop()}" if len(scales) == 1 else settings.name)
    listed_values = (listed.values | listed.ranges).items()
    identity = sorted((bare(k), str(v)) for k, v in listed_values if bare(k).split(".")[0] not in _NOT_IDENTITY)
    # Another grid is another sweep: a search goes on from what it keeps there.
    grid_settings = settings.model_dump(include={"tune", "factors", "only_arms"}, exclude_defaults=True)
    swept = "-".join(bare(key).rpartition(".")[2] for key in (*listed.swept, *listed.ranges)) or "points"
    return parents.pop() / f"sweep-{swept}-{hashlib.sha256(str((identity, grid_settings)).encode()).hexdigest()[:6]}"
