"""What a quantity is a ratio over: an answer, a text, a question."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """What a quantity is a ratio over: an answer, a text, a question.

    Attributes:
        id: unique in its suite, the same for every model and every run.
        text: identity of what was asked; items with one id and different texts are never compared.
        values: metric → (numerator, denominator); a plain mean has denominators of one.
        slices: parts of the suite that it belongs to, such as `domain=code`.
    """

    id: str
    text: str
    values: Mapping[str, tuple[float, float]]
    slices: tuple[str, ...] = ()
