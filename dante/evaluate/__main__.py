"""`python -m dante.evaluate COMMAND …`: the tools of an evaluation.

import    other harnesses' results into eval.json and a model card's metadata
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from dante.evaluate.foreign.command import import_results

COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {"import": import_results}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command with the words behind it."""
    parser = argparse.ArgumentParser(
        prog="python -m dante.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    words = list(sys.argv[1:] if arguments is None else arguments)
    return COMMANDS[parser.parse_args(words[:1]).command](words[1:])


if __name__ == "__main__":
    sys.exit(main())
