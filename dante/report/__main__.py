"""`python -m dante.report compare RUN RUN… [--out FILE.md]`: students of several runs on the same held-out answers."""

import argparse
import sys
from pathlib import Path

from dante import console
from dante.errors import DanteError
from dante.report.compare import compare, markdown, rich_table


def main(arguments: list[str]) -> int:
    """Prints the comparison; writes it as Markdown with `--out`. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dante.report")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("compare", help="students of several runs, each against the first")
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory; the first is the reference")
    command.add_argument("--out", type=Path, metavar="FILE.md", help="also write the table as Markdown")
    options = parser.parse_args(arguments)
    try:
        rows = compare(options.runs)
    except DanteError as error:
        console.error(error)
        return 2
    console.screen().print(rich_table(rows))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(markdown(rows), encoding="utf-8")
        console.info(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
