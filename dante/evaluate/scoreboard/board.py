"""Directories of runs → the whole board, compared; nothing is written here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dante.evaluate.scoreboard import pairs, table
from dante.evaluate.scoreboard.compute.capability import Capability, capability
from dante.evaluate.scoreboard.pairs import Comparison
from dante.evaluate.scoreboard.read import Model, models_of
from dante.evaluate.scoreboard.references import Reference, references
from dante.evaluate.scoreboard.table import Column, Row


@dataclass(frozen=True)
class Board:
    """All that is shown.

    Attributes:
        models: measured here.
        references: of cards.
        columns: benchmarks.
        rows: their cells, published models last.
        comparisons: of pairs of models.
        capability: what the figure draws.
    """

    models: tuple[Model, ...]
    references: tuple[Reference, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    capability: Capability


def board_of(paths: Sequence[Path], figure: str | None, progress: Callable[[str], None] = lambda _: None) -> Board:
    """Reads, ranks and compares.

    Args:
        paths: see `dante.evaluate.scoreboard.read`.
        figure: the benchmark to draw; None: the basket's mean.
        progress: told what is being done.

    Raises:
        DanteError: a path without an evaluation or without benchmarks, a damaged file, an unknown benchmark.
    """
    progress("reading")
    models, cards = models_of(paths), references()
    drawn = capability(models, cards, figure)
    comparisons = pairs.compared(models, lambda task: progress(f"comparing {task}"))
    return Board(
        tuple(models),
        tuple(cards),
        tuple(table.columns(models)),
        tuple(table.rows(models, cards)),
        tuple(comparisons),
        drawn,
    )
