"""Which of several teachers a record has, by one of its fields."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path

from dante import console
from dante.errors import DanteError
from dante.supervision.asked import Asked
from dante.supervision.sparse import train_records

FIELDS = ("domain", "language", "family")
OTHERS = "*"  # names the teacher of all values that are not named


def check_field(field: str, teachers: Collection[str], where: str) -> None:
    """Refuses what can be refused before a cache is there.

    Raises:
        DanteError: no such field, or no teacher.
    """
    if field not in FIELDS:
        raise DanteError(
            f"records have no field {field!r} to choose a teacher by",
            where=f"{where}.field",
            allowed=", ".join(FIELDS),
            fix=f"{where}.field={FIELDS[0]}",
        )
    _check_some(teachers, where)


def teacher_of_record(asked: Asked, field: str, teachers: Collection[str]) -> dict[str, str]:
    """Record id → name of its teacher, for the train records that are asked for.

    Raises:
        DanteError: records whose value names no teacher; the values are named.
    """
    values = field_of_records(asked.inputs["cache"], field, asked.records)
    without = (
        sorted({str(value) for value in values.values() if value not in teachers}) if OTHERS not in teachers else []
    )
    if without:
        key = f"{asked.where}.teachers"
        count = sum(value not in teachers for value in values.values())
        raise DanteError(
            f"{count} of {len(values)} train records have a {field} without a teacher: {', '.join(without)}",
            where=key,
            allowed=f"a teacher for every {field}, or one named '*' for all that are not named",
            fix=f"one for each: '+{key}.{without[0]}=${{{key}.{next(iter(teachers))}}}'",
        )
    for name in sorted(set(teachers) - {OTHERS} - set(values.values())):
        console.note(f"{asked.where}.teachers.{name}: no train record has this {field}")
    return {identity: str(value) if value in teachers else OTHERS for identity, value in values.items()}


def field_of_records(cache: Path, field: str, wanted: frozenset[str] | None) -> Mapping[str, str | None]:
    """A field of the train records by id."""
    return {identity: getattr(record, field) for identity, record in train_records(cache, wanted).items()}


def checked_shares(weights: Mapping[str, float], teachers: Collection[str], where: str) -> dict[str, float]:
    """Weights of exactly the teachers that are named, divided by their sum.

    Raises:
        DanteError: a weight too few or too many, or one that is not above 0.
    """
    _check_some(teachers, where)
    absent, spare = sorted(set(teachers) - set(weights)), sorted(set(weights) - set(teachers))
    if absent or spare:
        wrong = [f"{', '.join(absent)} without a weight"] * bool(absent)
        wrong += [f"a weight for {', '.join(spare)}, which names no teacher"] * bool(spare)
        raise DanteError(
            f"the teachers are {', '.join(sorted(teachers))}: {'; '.join(wrong)}",
            where=f"{where}.weights",
            allowed="a weight above 0 for each teacher, and no other",
            fix=" ".join([f"+{where}.weights.{n}=1" for n in absent] + [f"~{where}.weights.{n}" for n in spare]),
        )
    for name, weight in weights.items():
        if not 0 < weight < math.inf:
            raise DanteError(
                f"the weight of the teacher {name!r} is {weight:g}",
                where=f"{where}.weights.{name}",
                allowed="a number above 0",
                fix=f"{where}.weights.{name}=1",
            )
    total = sum(weights.values())
    return {name: weights[name] / total for name in teachers}


def _check_some(teachers: Collection[str], where: str) -> None:
    if not teachers:
        raise DanteError("no teacher is named", where=f"{where}.teachers", allowed="a mapping: name → part")
