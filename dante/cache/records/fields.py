"""What is wrong with one field of a line; the reader adds file and line."""

import math
import sys
from typing import Any

from dante.errors import DanteError

SHOWN_CHARACTERS = 60


class FieldError(ValueError):
    """A field that is missing or wrong.

    Args:
        field: its name.
        problem: what is wrong with it.
        allowed: what would have been accepted.
        fix: what to do; empty: correct the line.
    """

    def __init__(self, field: str, problem: str, allowed: str, fix: str = "") -> None:
        self.field, self.problem, self.allowed, self.fix = field, problem, allowed, fix
        super().__init__(f"field {field!r}: {problem}")

    def at(self, where: str, fix: str = "") -> DanteError:
        """The message for the user, with its place.

        Args:
            where: file and line, or row.
            fix: what to do where the error itself does not say.
        """
        return DanteError(str(self), where=where, allowed=self.allowed, fix=self.fix or fix)


def check_number(name: str, value: Any, low: float, high: float, allowed: str) -> None:
    """Refuses what is no finite number in [low, high]."""
    # type(True) is bool, not int; NaN fails both comparisons; JSON's integers may be larger than any float.
    if type(value) not in (float, int) or not low <= value <= high or value > sys.float_info.max:
        raise FieldError(name, f"is {short(value)}", allowed)


def is_finite(value: float | int) -> bool:
    """Whether a number is one that a float can hold: JSON's integers may have any number of digits."""
    return -sys.float_info.max <= value <= sys.float_info.max and not math.isnan(value)


def short(value: Any) -> str:
    """A value as it is shown in a message."""
    if type(value) is int and not is_finite(value):  # Python refuses to print the longest ones
        return f"a whole number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."
