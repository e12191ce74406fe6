"""Positions on the board: only inside groups of one protocol, never across."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dante.evaluate.scoreboard import protocol
from dante.evaluate.scoreboard.protocol import Protocol
from dante.evaluate.scoreboard.read import Model, Score
from dante.evaluate.scoreboard.references import Published, Reference


@dataclass(frozen=True)
class Rank:
    """A place in a group of numbers that may be compared.

    Attributes:
        place: 1 is best; equal values share theirs.
        of: numbers in the group.
        group: `A`, `B`, … where a column has several groups, else empty.
    """

    place: int
    of: int
    group: str

    def text(self) -> str:
        """`1/3`, or `A 1/3`."""
        return f"{self.group} {self.place}/{self.of}".strip()


def ranks(task: str, models: Sequence[Model], references: Sequence[Reference]) -> dict[str, Rank]:
    """Who stands where in one column; a name that is not ranked is absent.

    Groups are the protocols of what was measured here. A published number joins the one group that its card's
    statement fits; where it fits none or several it is not ranked. One number alone has no rank.

    Args:
        task: the column.
        models: measured here.
        references: of cards.
    """
    scores = {model.label: model.scores[task] for model in models if task in model.scores}
    groups = _groups(scores)
    for reference in references:
        published = reference.of(task)
        fitting = [key for key in groups if published is not None and protocol.fits(published.stated, key)]
        if published is not None and len(fitting) == 1:
            groups[fitting[0]][reference.model] = published
    better = {key: _better(key, scores) for key, members in groups.items() if len(members) > 1}
    signs = {key: sign for key, sign in better.items() if sign}
    letters = [chr(ord("A") + place) if len(signs) > 1 else "" for place in range(len(signs))]
    return {
        name: rank
        for letter, (key, sign) in zip(letters, signs.items(), strict=True)
        for name, rank in _places(groups[key], sign, letter).items()
    }


def _groups(scores: Mapping[str, Score]) -> dict[Protocol, dict[str, Score | Published]]:
    groups: dict[Protocol, dict[str, Score | Published]] = {}
    for name, score in scores.items():
        groups.setdefault(score.protocol, {})[name] = score
    return groups


def _better(key: Protocol, scores: Mapping[str, Score]) -> int:
    """1 where higher is better, −1 where lower is, 0 where neither is as such."""
    how = next(score.how for score in scores.values() if score.protocol == key)
    return {"higher": 1, "lower": -1}.get(how.better, 0)


def _places(members: Mapping[str, Score | Published], sign: int, letter: str) -> dict[str, Rank]:
    values = {name: sign * member.value for name, member in members.items()}
    return {
        name: Rank(1 + sum(other > value for other in values.values()), len(values), letter)
        for name, value in values.items()
    }
