"""How a metric reads: its name, its unit, its better direction; the same in a page, in Markdown and on figures."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """How a metric reads.

    Attributes:
        label: its name.
        share: a share of one, written in per cent.
        better: `lower`, `higher`, or empty where neither is better as such.
        meaning: what it says, in one clause.
        decoding: how a model was asked.
    """

    label: str
    share: bool = False
    better: str = ""
    meaning: str = ""
    decoding: str = ""

    def value(self, number: int | float, digits: int = 3) -> str:
        """`0.786`, or `71.2%`."""
        return f"{100 * number:.{max(digits - 2, 0)}f}%" if self.share else f"{number:.{digits}f}"

    def gap(self, number: int | float) -> str:
        """A difference without its sign: `0.123`, or `12.3 points`."""
        return f"{100 * abs(number):.1f} points" if self.share else f"{abs(number):.3f}"

    def signed(self, number: int | float) -> str:
        """A difference with its sign and a true minus."""
        text = f"{100 * number:+.1f}" if self.share else f"{number:+.3f}"
        return text.replace("-", "−")
