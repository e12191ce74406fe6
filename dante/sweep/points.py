"""What a sweep's points are: the product of factors, of what is listed on the command line, and of seeds.

Points that differ in nothing but their seed are one *arm*.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from hydra.core.override_parser.types import Override, QuotedString

from dante.errors import DanteError, did_you_mean
from dante.sweep.arguments import NULL
from dante.sweep.settings import SweepSettings, as_override

SEED, EXPERIMENT, SCALE, NAME = "seed", "experiment", "scale", "run.name"
_LONGEST_NAME = 120


@dataclass(frozen=True)
class Point:
    """One run before it is composed.

    Attributes:
        arm: what it shares with the points of other seeds: levels of factors and swept values, by key.
        overrides: the command line of the run, without its name.
        tuned: values of the tuning grid, by key; part of the run's name, not of the arm's.
        phase: `tune` or `final`.
    """

    arm: dict[str, str]
    overrides: tuple[str, ...]
    tuned: dict[str, str] = field(default_factory=dict)
    phase: str = "final"

    @property
    def arm_name(self) -> str:
        """`sorted-cwce-off`, `sft`, `dante_mosaic-fit.clip=0.5`; `all` where nothing but the seed differs."""
        return "-".join(_slug(v) if bare(k) in (EXPERIMENT, "") else f"{bare(k)}={_slug(v)}" for k, v in self._named())

    def _named(self) -> list[tuple[str, str]]:
        # A factor's level says by itself what it is; a swept key has to be named.
        return [("" if k.startswith("factor:") else k, v) for k, v in self.arm.items()] or [("", "all")]

    def levels(self) -> dict[str, str]:
        """Factor → level: of the sweep's factors, and of every swept key."""
        return {bare(key.removeprefix("factor:")): _slug(value) for key, value in self.arm.items()}

    def extras(self) -> str:
        """What a run's own name does not say of the point: everything but experiment, scale and seed."""
        shown = [(k, v) for k, v in self.arm.items() if bare(k) not in (EXPERIMENT, SCALE)]
        parts = [_slug(v) if k.startswith("factor:") else f"{bare(k)}={_slug(v)}" for k, v in shown]
        return ",".join([*parts, *self.tuned_parts()])

    def tuned_parts(self) -> list[str]:
        """`lr=1e-3` for every tuned key, by its last name."""
        return [f"{key.rpartition('.')[2]}={_slug(value)}" for key, value in self.tuned.items()]

    def with_tuned(self, values: dict[str, str], overrides: Sequence[str], phase: str) -> "Point":
        """The point at one place of the tuning grid."""
        added = [f"{key}={value}" for key, value in values.items()]
        return Point(self.arm, (*self.overrides, *added, *overrides), values, phase)


def bare(key: str) -> str:
    """An override's key without its plus signs and package."""
    return key.lstrip("+").partition("@")[0]


def _slug(value: str) -> str:
    text = value.strip("'\"[]{}").replace(",", "+").replace(" ", "")
    return re.sub(r"[^A-Za-z0-9._+=-]+", "-", text) or "none"


def shortened(name: str) -> str:
    """A name that a file system takes; what is cut off is replaced by its hash."""
    import hashlib

    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


class Listed:
    """Every key of the command line and of `params` with its values, the command line's in place of `params`'.

    Args:
        params: of the named sweep.
        arguments: of the command line.
        search: whether ranges without a list of values (`interval`) are searched; they are then in `ranges`.

    Raises:
        DanteError: such a range where nothing searches.
    """

    def __init__(self, params: Sequence[Override], arguments: Sequence[Override], search: bool) -> None:
        self.values: dict[str, list[str]] = {}
        self.ranges: dict[str, str] = {}
        for override in (*params, *arguments):
            key = override.get_key_element()
            for old in [k for k in (*self.values, *self.ranges) if bare(k) == bare(key)]:
                self.values.pop(old, None)
                self.ranges.pop(old, None)
            if search and override.is_sweep_override() and not override.is_discrete_sweep():
                self.ranges[key] = str(override.input_line).partition("=")[2]
            elif bare(key) != "sweep":
                self.values[key] = _values(override)

    @property
    def swept(self) -> list[str]:
        """Keys with several values."""
        return [key for key, values in self.values.items() if len(values) > 1]

    def seeds(self) -> list[str]:
        """All seeds; empty: the default one."""
        return next((values for key, values in self.values.items() if bare(key) == SEED), [])

    def holds(self, key: str) -> bool:
        return any(bare(listed_key) == bare(key) for listed_key in self.values)


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        value = override.value()
        return [f"'{value.text}'" if isinstance(value, QuotedString) else override.get_value_element_as_str()]
    if not override.is_discrete_sweep():
        raise DanteError(
            f"{override.input_line!r} names a range without a list of values",
            where="command line",
            allowed="a list (1,2,3), choice(…), range(…); with hydra/sweeper=optuna also interval(…)",
            fix="list the values, or add hydra/sweeper=optuna",
        )
    return ["null" if value == NULL else value for value in override.sweep_string_iterator()]


def arms(settings: SweepSettings, listed: Listed) -> Iterator[Point]:
    """One point per arm, without a seed: the product of factors' levels and swept values."""
    swept = [key for key in listed.swept if bare(key) != SEED]
    fixed = [f"{k}={v[0]}" for k, v in listed.values.items() if k not in swept and bare(k) != SEED]
    _check_factors(settings, listed)
    levels = settings.only_arms if settings.only_arms is not None else product(*settings.factors.values())
    for named in levels:
        chosen = list(zip(settings.factors, named, strict=True))
        changes = [as_override(k, v) for factor, level in chosen for k, v in settings.factors[factor][level].items()]
        for values in product(*(listed.values[key] for key in swept)):
            arm = {f"factor:{factor}": level for factor, level in chosen} | dict(zip(swept, values, strict=True))
            # Where nothing but the seed differs, the experiment is the arm.
            arm = arm or {k: v[0] for k, v in listed.values.items() if bare(k) == EXPERIMENT}
            yield Point(arm, (*fixed, *(f"{k}={v}" for k, v in zip(swept, values, strict=True)), *changes))


def _check_factors(settings: SweepSettings, listed: Listed) -> None:
    factor_levels = [list(levels) for levels in settings.factors.values()]
    for arm in settings.only_arms or []:
        wrong = [n for n, level in enumerate(arm) if n >= len(factor_levels) or level not in factor_levels[n]]
        if wrong or len(arm) != len(factor_levels):
            guess = (
                did_you_mean(arm[wrong[0]], factor_levels[wrong[0]]) if wrong and wrong[0] < len(factor_levels) else ""
            )
            raise DanteError(
                f"{arm} is no arm of this sweep",
                where="hydra.sweeper.only_arms",
                allowed="one level of each factor: " + " × ".join("|".join(levels) for levels in factor_levels),
                fix=guess or "name one level per factor, in their order",
            )
    tuned = settings.tune.keys if settings.tune else []
    for factor, by_level in settings.factors.items():
        others = {
            bare(k)
            for f, other_levels in settings.factors.items()
            if f != factor
            for o in other_levels.values()
            for k in o
        }
        for level, overrides in by_level.items():
            for key in overrides:
                if bare(key) in {*others, *map(bare, tuned)}:
                    raise DanteError(
                        f"{bare(key)} is set by the factor {factor!r} and by another factor or the tuning",
                        where=f"hydra.sweeper.factors.{factor}.{level}",
                        fix="set it in one of the two",
                    )
                if listed.holds(key):
                    raise DanteError(
                        f"{bare(key)} is set on the command line (or in params) and by the factor {factor!r}",
                        where=f"hydra.sweeper.factors.{factor}.{level}",
                        fix="set it in one of the two",
                    )


def seeded(arm: Point, seeds: Sequence[str]) -> list[Point]:
    """The arm's points, one per seed; one with the default seed where none is listed."""
    if not seeds:
        return [arm]
    return [Point(arm.arm, (*arm.overrides, f"{SEED}={seed}"), arm.tuned, arm.phase) for seed in seeds]


def overrides_of(changes: dict[str, Any]) -> list[str]:
    """A mapping of keys to values as overrides."""
    return [as_override(key, value) for key, value in changes.items()]
