"""Numbers in a text, in one normal form: `1,000.0`, `1000` and `1e3` are the same, `3,5` is three and a half [I].

A comma before exactly three digits groups thousands, any other one between digits is a decimal comma (Italian). A
sign belongs to a number only where no word or number stands before it: `2020-2021` ends with 2021.
"""

import re
from decimal import Decimal

GROUPED = "[1-9]\\d{0,2}(?:[,\u00a0\u202f\u2009]\\d{3})+(?!\\d)(?:\\.\\d+)?"
# In `1,2,3` commas separate numbers.
COMMA = r"(?<!\d,)\d+,\d+(?!,?\d)"
PLAIN = r"\d+(?:\.\d+)?|(?<!\d)\.\d+"
NUMBER = re.compile(rf"(?:(?<![\w)\]])[-+−])?(?:{GROUPED}|{COMMA}|{PLAIN})(?:[eE][-+]?\d{{1,3}}(?!\w))?")
SPACES = re.compile("[\u00a0\u202f\u2009]")


def numbers(text: str) -> list[str]:
    """All numbers of a text in order, in their normal form."""
    return [_normal(number) for number in NUMBER.findall(text)]


def canonical(text: str) -> str | None:
    """The normal form of a text that is a number and nothing else, or None."""
    return _normal(text) if NUMBER.fullmatch(text) else None


def _normal(number: str) -> str:
    plain = SPACES.sub("", number).replace("−", "-")
    grouped = re.fullmatch(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?(?:[eE].*)?", plain)
    value = Decimal(plain.replace(",", "") if grouped else plain.replace(",", "."))
    if not value:
        return "0"
    # Decimal.normalize would round to 28 digits, and two long numbers could become one.
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    kept = len(digits)
    while digits[kept - 1] == 0:
        kept -= 1
    return f"{Decimal((sign, digits[:kept], exponent + len(digits) - kept)):f}"
