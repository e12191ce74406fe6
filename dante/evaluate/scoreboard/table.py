"""The board as plain rows and columns: what every edition (terminal, Markdown, HTML) shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from dante.evaluate.scoreboard.protocol import BENCHMARKS, Protocol
from dante.evaluate.scoreboard.ranking import Rank, ranks
from dante.evaluate.scoreboard.read import Model, Score
from dante.evaluate.scoreboard.references import Published, Reference

NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """One number.

    Attributes:
        value: `43.1 ± 3.5`, or as the card prints it.
        subset: `(200)`: the items asked, where these were fewer than all; else empty.
        signs: of a published number's caveats: `cf,d`.
        rank: where it stands, or None: it is not ranked.
    """

    value: str = NOTHING
    subset: str = ""
    signs: str = ""
    rank: Rank | None = None

    @property
    def best(self) -> bool:
        return self.rank is not None and self.rank.place == 1

    def text(self) -> str:
        """`43.1 ± 3.5 (200) 1/3`."""
        signs = f"[{self.signs}]" if self.signs else ""
        return " ".join(
            part for part in (self.value + signs, self.subset, self.rank.text() if self.rank else "") if part
        )


@dataclass(frozen=True)
class Column:
    """A benchmark.

    Attributes:
        task: its name on the board.
        name: for a heading.
        subset: `200 items only`, where all that was measured here is such a subset; else empty.
        lines: how its numbers were measured, one line for each protocol.
        said: what a reader must know of where the items come from.
    """

    task: str
    name: str
    subset: str
    lines: tuple[str, ...]
    said: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A model's cells, in the order of the columns; `card`: where a published row is from, else empty."""

    name: str
    card: str
    cells: tuple[Cell, ...]


def columns(models: Sequence[Model]) -> list[Column]:
    """The benchmarks that were measured here, in the order of `benchmarks.json`, then any others."""
    measured = dict.fromkeys(task for model in models for task in model.scores)
    ordered = [task for task in BENCHMARKS["tasks"] if task in measured]
    ordered += [task for task in measured if task not in ordered]
    return [_column(task, [model.scores[task] for model in models if task in model.scores]) for task in ordered]


def _column(task: str, scores: Sequence[Score]) -> Column:
    limits = {score.protocol.limit for score in scores}
    sizes = sorted({score.n for score in scores})
    subset = f"{' or '.join(map(str, sizes))} items only" if None not in limits else ""
    used: dict[Protocol, list[str]] = {}
    for score in scores:
        used.setdefault(score.protocol, []).append(score.harness)
    lines = (protocol.line(" and ".join(dict.fromkeys(harnesses))) for protocol, harnesses in used.items())
    said = tuple(dict.fromkeys(score.said for score in scores if score.said))
    name = str(BENCHMARKS["tasks"].get(task, {}).get("name", task))
    return Column(task, name, subset, tuple(dict.fromkeys(lines)), said)


def rows(models: Sequence[Model], references: Sequence[Reference]) -> list[Row]:
    """Models measured here, then published ones that have a number in some column."""
    tasks = [column.task for column in columns(models)]
    placed = {task: ranks(task, models, references) for task in tasks}
    here = [
        Row(model.label, "", tuple(_measured(model.scores.get(task), placed[task].get(model.label)) for task in tasks))
        for model in models
    ]
    cards = [
        Row(one.model, one.card, tuple(_published(one.of(task), placed[task].get(one.model)) for task in tasks))
        for one in references
        if any(one.of(task) for task in tasks)
    ]
    return here + cards


def number(score: Score) -> str:
    """`43.1 ± 3.5` in per cent for a share."""
    scale, digits = (100, 1) if score.how.share else (1, 3)
    error = "" if score.stderr is None else f" ± {scale * score.stderr:.{digits}f}"
    return f"{scale * score.value:.{digits}f}{error}"


def _measured(score: Score | None, rank: Rank | None) -> Cell:
    if score is None:
        return Cell()
    return Cell(number(score), f"({score.n})" if score.protocol.limit is not None else "", "", rank)


def _published(published: Published | None, rank: Rank | None) -> Cell:
    return Cell() if published is None else Cell(published.text, "", published.signs, rank)
