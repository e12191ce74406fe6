"""`python -m dante.experiments new | fill | index | check`: experiments as folders of one form.

new NAME [--from runs/SWEEP]   a folder from the template, with results, config and figures of a sweep or comparison
fill NAME --from runs/SWEEP    results, config and figures of an existing folder anew
index                          write what is generated: the index, and each folder's table of results
check [NAME …]                 say everything that is wrong; exit 1 if something is
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dante import console
from dante.errors import DanteError
from dante.experiments.check import check, check_all
from dante.experiments.index import folders, write_generated
from dante.experiments.new import fill, new


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; 1 when `check` finds a fault, 2 for a mistake in what was asked."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except DanteError as error:
        console.error(error)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dante.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dir", type=Path, default=Path("experiments"), help="default: experiments")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    source = "a sweep's directory, or one that `python -m dante.report compare` wrote"
    command = commands.add_parser("new", help="a folder from the template")
    command.add_argument("name")
    command.add_argument("--from", dest="source", type=Path, metavar="DIR", help=source)
    command.set_defaults(run=_new)
    command = commands.add_parser("fill", help="results, config and figures of an existing folder anew")
    command.add_argument("name")
    command.add_argument("--from", dest="source", type=Path, metavar="DIR", required=True, help=source)
    command.set_defaults(run=_fill)
    command = commands.add_parser("index", help="write what is generated")
    command.set_defaults(run=_index)
    command = commands.add_parser("check", help="say what is wrong")
    command.add_argument("names", nargs="*", metavar="NAME", help="default: all, and the index")
    command.set_defaults(run=_check)
    return parser


def _new(options: argparse.Namespace) -> int:
    folder = new(options.dir, options.name, options.source)
    console.info(f"wrote {folder}; now its TODOs, then: python -m dante.experiments index")
    return 0


def _fill(options: argparse.Namespace) -> int:
    for path in fill(options.dir / options.name, options.source):
        console.info(f"wrote {path}")
    return 0


def _index(options: argparse.Namespace) -> int:
    written = write_generated(options.dir)
    for path in written:
        console.info(f"wrote {path}")
    if not written:
        console.info("everything generated is up to date")
    return 0


def _check(options: argparse.Namespace) -> int:
    named = [options.dir / name for name in options.names]
    faults = [fault for folder in named for fault in check(folder)] if named else check_all(options.dir)
    for fault in faults:
        console.error(fault)
    if faults:
        return 1
    console.info(f"{len(named) or len(folders(options.dir))} experiments are as they should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
