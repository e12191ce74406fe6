"""`python -m dante.evaluate COMMAND …`: what can be done with evaluations outside a run."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from dante import console
from dante.errors import DanteError

# A command's module has `add_parser(commands)` and `run(options)`; it is imported only when it is named.
COMMANDS = {
    "measure": ("dante.evaluate.measure_command", "suites of any model, without a run"),
    "keep": ("dante.evaluate.kept_scores.command", "a teacher's scores beside its cache, for runs without its weights"),
    "import": ("dante.evaluate.foreign.command", "other harnesses' results as eval.json and a card's metadata"),
    "scoreboard": ("dante.evaluate.scoreboard.command", "benchmarks of runs side by side, beside published ones"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; 2 for a mistake in what was asked."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m dante.evaluate",
        description=__doc__,
        epilog="commands:\n" + "\n".join(f"  {name:<12} {text}" for name, (_, text) in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    named = words[0] if words and words[0] in COMMANDS else None
    if named is None:
        parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND", help="one of those below")
        parser.parse_args(words)
    module = import_module(COMMANDS[str(named)][0])
    module.add_parser(parser.add_subparsers(dest="command", required=True))
    try:
        options, rest = parser.parse_known_args(words)
        if hasattr(options, "overrides"):  # this command takes KEY=VALUE behind its options, and checks them itself
            options.overrides += rest
        elif rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        return int(module.run(options))
    except DanteError as error:
        console.error(error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
