"""The command line of a sweep, in a form that Hydra can compose.

Hydra composes a sweep once without what is swept. An experiment that is swept is then absent, and so is the scale, the
student, the cache that it would bring: `-m +experiment=a,b scale=smoke` ends in "could not override scale". What is
fixed is therefore handed over as a choice of one, which Hydra leaves to the points.
"""

import json
import os
import shlex
import sys

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

_typed: list[str] = []  # the command line of this process before `take_over`
# Stands for `null`, of which Hydra takes no choice.
NULL = "__null__"
_FLAGS = ("-m", "--multirun", "hydra.mode=MULTIRUN")
_CONFIG_FLAGS = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")
# Environment of a sweep's points: those that were typed, as JSON.
CONFIG_FLAGS = "DANTE_CONFIG_FLAGS"
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
    if override.is_delete() or override.is_sweep_override() or not value:
        return argument
    return f"{key}=choice({NULL if override.value() is None else value})"


def take_over() -> None:
    """Let Hydra see the lifted command line; `typed` still tells what the user wrote."""
    _typed[:] = sys.argv
    if is_sweep(sys.argv[1:]):  # its points are started with the same configuration directory
        os.environ[CONFIG_FLAGS] = json.dumps(config_flags(sys.argv[1:]))
    sys.argv[1:] = lifted(sys.argv[1:])


def config_flags(arguments: list[str]) -> list[str]:
    """`--config-dir DIR` and its kin: flags of Hydra's that say which configuration is composed."""
    flags = []
    for place, argument in enumerate(arguments):
        name, equals, _ = argument.partition("=")
        if name in _CONFIG_FLAGS:
            flags += [argument] if equals else arguments[place : place + 2]
    return flags


def typed() -> str:
    """The command that was typed, to be typed again."""
    script, *rest = _typed or sys.argv
    return shlex.join(["python", script, *rest])
