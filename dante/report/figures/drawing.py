"""What a figure of the report is, before it is drawn."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes

from dante.look.theme import Theme


@dataclass(frozen=True)
class Drawing:
    """One figure of the report.

    Attributes:
        section: where it stands.
        draw: makes it in a theme; None where the run has nothing to draw.
        caption: what a reader has to know beside it.
    """

    section: str
    draw: Callable[[Theme], Axes | None]
    caption: str = ""
