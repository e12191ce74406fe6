"""The command line of a sweep, in a form that Hydra can compose.

Hydra composes a sweep once without what is swept. An experiment that is swept is then absent, and so is the scale, the
student, the cache that it would bring: `-m +experiment=a,b scale=smoke` ends in "could not override scale". What is
fixed is therefore handed over as a choice of one, which Hydra leaves to the points.
"""

import shlex
import sys

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

_typed: list[str] = []  # the command line of this process before `take_over`
_FLAGS = ("-m", "--multirun", "hydra.mode=MULTIRUN")
# Of the sweep itself, not of its points.
_OWN = ("hydra.", "hydra/", "+hydra.", "+hydra/", "++hydra.", "~hydra", "+sweep=")


def is_sweep(arguments: list[str]) -> bool:
    """Whether the command line asks for several runs."""
    return any(argument in _FLAGS or argument.startswith("+sweep=") for argument in arguments)


def lifted(arguments: list[str]) -> list[str]:
    """The same command line with `key=value` as `key=choice(value)`; unchanged where no sweep is asked for."""
    if not is_sweep(arguments):
        return arguments
    parser = OverridesParser.create()
    return [_lifted(argument, parser) for argument in arguments]


def _lifted(argument: str, parser: OverridesParser) -> str:
    if argument.startswith("-") or argument.startswith(_OWN):
        return argument
    try:
        override = parser.parse_override(argument)
    except HydraException:  # Hydra says what is wrong with it
        return argument
    key, _, value = argument.partition("=")
    fixed = not (override.is_delete() or override.is_sweep_override())
    if not fixed or not value or override.value() is None:  # a choice cannot be of nothing
        return argument
    return f"{key}=choice({value})"


def take_over() -> None:
    """Let Hydra see the lifted command line; `typed` still tells what the user wrote."""
    _typed[:] = sys.argv
    sys.argv[1:] = lifted(sys.argv[1:])


def typed() -> str:
    """The command that was typed, to be typed again."""
    script, *rest = _typed or sys.argv
    return shlex.join(["python", script, *rest])
