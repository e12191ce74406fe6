"""What a run says on the terminal: one line per step, notes, errors as one paragraph. Rank 0 only."""

import logging
import os
import warnings
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dante.errors import DanteError, StepFailed
from dante.system import rank

_out = Console(quiet=rank.of_this_process() != 0, highlight=False)
_err = Console(stderr=True, highlight=False)


def quiet_libraries() -> None:
    """Silence what libraries print beside our lines: loading bars, tips, version notices. Their errors stay.

    Nothing is imported for it but transformers, which every plan needs: a stage that uses more pays for that itself.
    """
    from transformers.utils import logging as transformers_logging

    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # read when `datasets` is imported
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")


def quiet_lightning() -> None:
    """Silence Lightning's tips and notices; it sets its own log level when it is imported."""
    import lightning.pytorch  # noqa: F401

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def screen() -> Console:
    """The console that progress bars share with the lines printed here."""
    return _out


def progress_bar(*columns: ProgressColumn) -> Progress:
    """Bars over things that are counted: how many, how long so far, how long still.

    Args:
        *columns: further ones, before the times.
    """
    counted = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*counted, *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=_out)


def is_terminal() -> bool:
    """Whether somebody is watching, rather than a log file."""
    return _out.is_terminal


def width() -> int:
    """Columns of the terminal."""
    return _out.width


def short(path: Path) -> str:
    """A path as the user would type it: relative where it lies below the current directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def opening(title: str, hypothesis: str, run: str, fidelity: str) -> None:
    """The first lines, before anything heavy is loaded."""
    _out.print(f"\n[bold]{escape(title)}[/] · {run} · fidelity {fidelity}")
    _out.print(f"[dim]{escape(hypothesis)}[/]\n")


def started(number: int, total: int, label: str, *, resumed: bool) -> None:
    """A step begins."""
    _out.print(f"[bold]\\[{number}/{total}] {label}[/]" + (" [yellow](continues)[/]" if resumed else ""))


def finished(number: int, total: int, label: str, wall_s: float, directory: Path) -> None:
    """A step is complete."""
    _out.print(f"[green]\\[{number}/{total}] {label}[/] {wall_s:.1f} s → {escape(short(directory))}")


def skipped(number: int, total: int, label: str, directory: Path) -> None:
    """A step was complete already."""
    _out.print(f"[dim]\\[{number}/{total}] {label} is complete → {escape(short(directory))}[/]")


def note(text: str) -> None:
    """One line that the user should see."""
    _out.print(f"[yellow]{escape(text)}[/]")


def info(text: str) -> None:
    """One plain line."""
    _out.print(escape(text))


def error(problem: DanteError | StepFailed) -> None:
    """One paragraph on standard error."""
    _err.print(f"[bold red]error[/] {escape(str(problem))}", soft_wrap=True)


def done(run_dir: Path) -> None:
    """Where everything is."""
    _out.print(f"\n[bold green]done[/] → {escape(short(run_dir))}/")
    page = run_dir / "report" / "index.html"
    if page.is_file():
        _out.print(f"  report {escape(short(page))}\n  model  {escape(short(run_dir / 'release'))}/")
