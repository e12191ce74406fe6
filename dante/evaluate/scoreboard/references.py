"""Published numbers as their cards print them, with what keeps them from being compared: `references.json`.

Sources: the model cards of DANTE-Mosaic-3.5B, Kai-3B-Instruct and Laguna-XS.2-dense [C]; that the DANTE card's other
rows are those of the SmolLM3-3B-Base card was found by comparing the two tables [I]. MMLU's task version is 2 as a
group of lm-eval and 1.0 as its subjects'; either name is accepted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CONTENT: dict[str, Any] = json.loads(Path(__file__).with_name("references.json").read_text(encoding="utf-8"))
# Caveat's key → its sign beside a number, and what it says.
CAVEATS: Mapping[str, Mapping[str, str]] = _CONTENT["caveats"]
# The DANTE card's compute table, A100-hours.
COMPUTE: tuple[Mapping[str, Any], ...] = tuple(_CONTENT["compute"])


@dataclass(frozen=True)
class Published:
    """One number of a card.

    Attributes:
        benchmark: as the card names it.
        text: as the card prints it, without its marks; per cent.
        tasks: columns of the board that it stands in, its own first.
        caveats: keys of `CAVEATS`.
        stated: what the card says of the protocol, see `dante.evaluate.scoreboard.protocol`.
    """

    benchmark: str
    text: str
    tasks: tuple[str, ...]
    caveats: tuple[str, ...]
    stated: Mapping[str, Any]

    @property
    def value(self) -> float:
        """A share of one, as rows of an evaluation have it."""
        return float(self.text) / 100

    @property
    def signs(self) -> str:
        """`cf,d`: the signs of its caveats."""
        return ",".join(CAVEATS[key]["sign"] for key in self.caveats)


@dataclass(frozen=True)
class Reference:
    """One model of a card.

    Attributes:
        model: as the card names it.
        card: where its numbers are from.
        a100_hours: of its training, or None where the card does not say.
        with_cache_a100_hours: the teacher's answers included, or None.
        values: its numbers.
    """

    model: str
    card: str
    a100_hours: float | None
    with_cache_a100_hours: float | None
    values: tuple[Published, ...]

    def of(self, task: str) -> Published | None:
        """What stands in a column of the board."""
        return next((value for value in self.values if task in value.tasks), None)


def references() -> list[Reference]:
    """All published rows, in the order of the file."""
    return [_reference(row) for row in _CONTENT["rows"]]


def _reference(row: Mapping[str, Any]) -> Reference:
    training, with_cache = (_hours(row[key]) for key in ("a100_hours", "with_cache_a100_hours"))
    values = tuple(
        Published(one["benchmark"], one["text"], tuple(one["tasks"]), tuple(one["caveats"]), one["stated"])
        for one in row["values"]
    )
    return Reference(row["model"], row["card"], training, with_cache, values)


def _hours(number: int | float | None) -> float | None:
    return None if number is None else float(number)
