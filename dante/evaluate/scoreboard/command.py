"""`scoreboard RUN…`: benchmarks of runs side by side, beside what cards publish; ranked only where that is fair."""

import argparse
from pathlib import Path
from typing import Any

from rich.markup import escape

from dante import console
from dante.errors import DanteError
from dante.evaluate.scoreboard import page, terminal
from dante.evaluate.scoreboard.board import Board, board_of
from dante.evaluate.scoreboard.compute.figure import draw
from dante.look.theme import editions
from dante.system import os_errors
from dante.system.files import write_text

OUT = Path("runs", "scoreboard")
_STEM = "scoreboard"


def add_parser(commands: Any) -> None:
    """Its arguments."""
    command: argparse.ArgumentParser = commands.add_parser(_STEM, description=__doc__)
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="directory of a run, or with an eval.json")
    command.add_argument("--figure", metavar="BENCHMARK", help="draw this one (default: the mean of the card's basket)")
    command.add_argument("--out", type=Path, metavar="DIR", default=OUT, help="where to write (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Prints the table, writes the scoreboard, prints the paths last.

    Raises:
        DanteError: see `dante.evaluate.scoreboard.board.board_of`; or the directory cannot be written.
    """
    with console.screen().status("reading") as status:
        board = board_of(options.runs, options.figure, lambda what: status.update(escape(what)))
    terminal.show(board)
    try:
        written = write(board, options.out)
    except OSError as error:
        raise os_errors.as_dante_error(error, "the scoreboard", options.out) or DanteError(str(error)) from error
    for path in written:
        console.info(f"wrote {console.short(path.absolute())}")
    return 0


def write(board: Board, out: Path) -> list[Path]:
    """Writes `scoreboard.md`, `scoreboard.html` and, where there is a point to draw, `scoreboard.png`.

    Args:
        board: read and compared.
        out: directory; what an earlier scoreboard left in it is replaced.

    Returns:
        What was written, the page last.
    """
    out.mkdir(parents=True, exist_ok=True)
    image, text, html = (out / f"{_STEM}.{kind}" for kind in ("png", "md", "html"))
    image.unlink(missing_ok=True)
    drawn = editions(lambda theme: draw(board.capability, theme))
    figure = None if drawn is None else drawn.published(image, page.caption(board))
    values = page.content(board, figure)
    write_text(text, page.markdown(values))
    write_text(html, page.html(values))
    return [path for path in (image, text, html) if path.is_file()]
