"""`python -m dante.evaluate import RESULTS… [--model NAME] [--out DIR]`: other harnesses' results into `eval.json`.

RESULTS are files and folders of lm-evaluation-harness, bigcode-evaluation-harness, EvalPlus and LiveCodeBench, mixed as
they come; a folder is looked through with everything below it.
"""

import argparse
import re
from pathlib import Path
from typing import Any

from rich.table import Table

from dante import console
from dante.evaluate.foreign.choose import Chosen, choose
from dante.evaluate.foreign.collect import collect
from dante.evaluate.foreign.metrics import described
from dante.evaluate.foreign.result import Result, Score
from dante.evaluate.foreign.tasks import Name
from dante.evaluate.foreign.write import evaluation, write


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "import", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="result files, or folders with some")
    parser.add_argument("--model", metavar="NAME", help="one of several models, or the name to write for the only one")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/imported/MODEL")


def run(options: argparse.Namespace) -> int:
    """Reads results, writes them, prints a table of them."""
    chosen = choose(collect(options.results), options.model, options.results)
    written = write(chosen, options.out or Path("runs", "imported", _folder_name(chosen.model)))
    console.info(f"\n{chosen.model}\n")
    console.screen().print(_table(chosen))
    for note in evaluation(chosen)["notes"]:
        console.note(note)
    for path in written:  # unbroken, so that it can be copied
        console.screen().print(f"wrote {console.short(path)}", soft_wrap=True, markup=False)
    return 0


def _folder_name(model: str) -> str:
    return re.sub(r"[^\w.-]+", "__", model).strip("_.") or "model"


def _table(chosen: Chosen) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("task", "metric", "value", "stderr", "n", "harness"):
        table.add_column(heading, justify="right" if heading in ("value", "stderr", "n") else "left", overflow="fold")
    for name, result in chosen.results:
        for score in result.scores:
            table.add_row(*_cells(name, result, score))
    return table


def _cells(name: Name, result: Result, score: Score) -> tuple[str, ...]:
    metric = described(score, result.decoding)
    return (
        f"  {score.part}" if score.part else name.task,
        score.metric,
        metric.value(score.value, 4),
        "–" if score.stderr is None else metric.value(score.stderr, 4),
        "–" if score.n is None else f"{score.n:,}",
        f"{result.harness.name} {result.harness_version}".strip(),
    )
