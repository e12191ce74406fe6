"""`python -m dante.report compare PATH… [--baseline ARM] [--out DIR]`: arms beside each other, judged and drawn."""

import argparse
import sys
from pathlib import Path

from dante import console
from dante.errors import DanteError
from dante.report.comparison.command import compare, rich_table, write
from dante.system import os_errors

OUT = Path("comparison")


def main(arguments: list[str]) -> int:
    """Prints the verdict and writes the comparison. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dante.report")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("compare", help="runs beside each other: differences, intervals, cost")
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="directory of a run or of a sweep")
    command.add_argument(
        "--baseline", metavar="ARM", help="arm to compare with (default: the sweep's, else sft, else the first)"
    )
    command.add_argument("--out", type=Path, metavar="DIR", default=OUT, help="where to write (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        tables, found_runs = compare(options.paths, options.baseline)
        for group, results in tables:
            several = f"Table {group.number}: " if len(tables) > 1 else ""
            title = f"{several}{results[0].how.label} ± spread over seeds, against {group.baseline.name}; p corrected"
            console.screen().print(rich_table(results, title))
        for absent_run in found_runs.absent:
            console.note(f"not compared: {absent_run.run} {absent_run.why}")
        page = write(tables, found_runs, options.out)
    except DanteError as error:
        console.error(error)
        return 2
    except OSError as error:
        console.error(os_errors.as_dante_error(error, "the comparison", options.out) or DanteError(str(error)))
        return 2
    console.info(f"wrote {console.short(page)}, comparison.md, comparison.csv and comparison.json")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
