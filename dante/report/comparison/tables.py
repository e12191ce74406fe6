"""What may be ranked together: arms with the same teacher, the same student, the same train data, the same texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dante.errors import DanteError, did_you_mean
from dante.report.comparison.runs.arms import Arm
from dante.report.comparison.runs.find import Found

# The experiment that was the control when configurations did not say so.
_FIRST_CONTROL = "sft"


@dataclass(frozen=True)
class Group:
    """Arms of one table.

    Attributes:
        number: from 1 on.
        arms: the baseline first.
        equal: what they share: its name and how it reads.
        differs: those of `equal` in which this table differs from another.
    """

    number: int
    arms: tuple[Arm, ...]
    equal: dict[str, str]
    differs: tuple[str, ...]

    @property
    def baseline(self) -> Arm:
        """What the others are compared with."""
        return self.arms[0]


def separate(arms: Sequence[Arm], found: Found, baseline: str | None) -> list[Group]:
    """Tables in the order of their first arms.

    Args:
        arms: all of them.
        found: where they came from; a sweep may name its baseline.
        baseline: the arm asked for; a table without it has its own.

    Raises:
        DanteError: no arm has that name.
    """
    names = [arm.name for arm in arms]
    if baseline is not None and baseline not in names:
        raise DanteError(
            f"no arm is called {baseline!r}",
            where="--baseline",
            allowed=", ".join(names),
            fix=did_you_mean(baseline, names) or "name one of them",
        )
    by_kind: dict[tuple[str, ...], list[Arm]] = {}
    for arm in arms:
        by_kind.setdefault(arm.first.alike.key(), []).append(arm)
    kinds = list(by_kind)
    parts = list(arms[0].first.alike.parts())
    differing = tuple(name for place, name in enumerate(parts) if len({kind[place] for kind in kinds}) > 1)
    wanted = [baseline, *(sweep.get("baseline") for sweep in found.sweeps)]
    groups = []
    for number, members in enumerate(by_kind.values(), start=1):
        base = _baseline(members, wanted)
        ordered = (base, *(arm for arm in members if arm is not base))
        equal = {name: text for name, (_, text) in base.first.alike.parts().items()}
        groups.append(Group(number, ordered, equal, differing))
    return groups


def _baseline(arms: Sequence[Arm], wanted: Sequence[str | None]) -> Arm:
    """The arm asked for, else a sweep's, else the first whose configuration says `control: true`, else the first."""
    for name in wanted:
        for arm in arms:
            if name is not None and arm.name == name:
                return arm
    return next((arm for arm in arms if _is_control(arm.first.config)), arms[0])


def _is_control(config: Mapping[str, Any]) -> bool:
    by_name = config.get("experiment", {}).get("name") == _FIRST_CONTROL
    return bool(config.get("control", by_name))
