"""Schedules of loss weights over the run.

A schedule maps progress to a number. Progress is `step / steps`, a fraction of the run: a recipe keeps its shape at any
length. Values outside [0, 1] are clamped, so that a run that is extended by hand never extrapolates.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from dante.errors import DanteError
from dante.look.numbers import number


class Schedule(ABC):
    """Progress in [0, 1] → weight."""

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """The weight at `step / steps`."""

    def path(self, unit: str = "") -> str:
        """How it goes, in words: `goes from 1 to 0.1 times the mean from 10% of the run on`.

        Args:
            unit: what a value is one of, with a space before it.
        """
        return f"follows {type(self).__name__}{unit and f', in units of{unit}'}"


@dataclass(frozen=True)
class Constant(Schedule):
    """The same weight throughout."""

    value: float

    def __call__(self, progress: float) -> float:
        return self.value

    def path(self, unit: str = "") -> str:
        return f"is {number(self.value)}{unit}"


@dataclass(frozen=True)
class Linear(Schedule):
    """From `start` to `end` over the run. The card's TEA weight goes from 1.0 to 0.1 (DANTE-Mosaic-3.5B card [C])."""

    start: float
    end: float

    def __call__(self, progress: float) -> float:
        return _interpolate(self.start, self.end, progress)

    def path(self, unit: str = "") -> str:
        return f"goes from {number(self.start)} to {number(self.end)}{unit}"


@dataclass(frozen=True)
class HoldThenRamp(Schedule):
    """`start` for the first `hold` of the run, then linear to `end`.

    The card's CE weight is `0.70 + 0.30·max(0, t − 200)/1800` over 2,000 steps (DANTE-Mosaic-3.5B card [C]):
    start 0.70, end 1.0, hold 0.1.
    """

    start: float
    end: float
    hold: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.hold < 1.0:
            raise DanteError(f"hold is {self.hold}", where="HoldThenRamp.hold", allowed="a fraction in [0, 1)")

    def __call__(self, progress: float) -> float:
        return _interpolate(self.start, self.end, (progress - self.hold) / (1.0 - self.hold))

    def path(self, unit: str = "") -> str:
        return f"goes from {number(self.start)} to {number(self.end)}{unit} from {self.hold:.0%} of the run on"


def _interpolate(start: float, end: float, fraction: float) -> float:
    fraction = min(max(fraction, 0.0), 1.0)
    # This form gives exactly `start` and `end` at the ends.
    return (1.0 - fraction) * start + fraction * end
