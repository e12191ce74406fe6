"""The board for a terminal: as many columns side by side as fit, the rest below."""

from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dante import console
from dante.evaluate.scoreboard.board import Board
from dante.evaluate.scoreboard.page import pairs, signs
from dante.evaluate.scoreboard.table import NOTHING, Cell

# Longest name of a model beside the numbers; longer ones go on below.
_NAME = 34


def show(board: Board) -> None:
    """Prints the table, its caveats, and who beats whom."""
    for places in _chunks(board):
        console.screen().print(_table(board, places))
    for sign in signs(board):
        console.info(f"[{sign['sign']}] {sign['text']}")
    console.info("Only numbers with a place (1/3) are ranked, among those of one protocol.")
    names = {column.task: column.name for column in board.columns}
    for pair in pairs(board.comparisons, names):
        console.info(f"{pair['a']} against {pair['b']}: {pair['tally']}")


def _table(board: Board, places: Sequence[int]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="dim")
    shown.add_column("model", overflow="fold", max_width=_NAME)
    for place in places:
        column = board.columns[place]
        shown.add_column(escape("\n".join(_heading(column.name, column.subset))), justify="right", no_wrap=True)
    for row in board.rows:
        if row.card and all(row.cells[place].value == NOTHING for place in places):
            continue
        shown.add_row(escape(row.name), *(_cell(row.cells[place]) for place in places), style="dim" if row.card else "")
    return shown


def _cell(cell: Cell) -> Text:
    return Text(cell.text(), style="bold" if cell.best else "")


def _heading(name: str, subset: str) -> list[str]:
    return [part for part in (*name.split(", "), subset) if part]


def _chunks(board: Board) -> Iterator[list[int]]:
    """Places of columns that fit beside each other, in turn."""
    left, chunk = console.width() - _NAME, list[int]()
    for place, column in enumerate(board.columns):
        texts = [*_heading(column.name, column.subset), *(row.cells[place].text() for row in board.rows)]
        width = max(map(len, texts)) + 1
        if chunk and width > left:
            yield chunk
            left, chunk = console.width() - _NAME, []
        chunk.append(place)
        left -= width
    yield chunk
