"""Differences with their intervals, one under the other."""

from matplotlib.axes import Axes

from dante.look.theme import LIGHT, panel
from dante.statistics.bootstrap import PairedDifference


def forest(differences: dict[str, PairedDifference], title: str, label: str) -> Axes:
    """Each difference with its interval; what crosses zero is grey, what lies below is better.

    Args:
        differences: by name, the first on top.
        title: of the figure.
        label: of the horizontal axis.
    """
    size_in = (6.4, 1.2 + 0.27 * len(differences))
    axes = panel(LIGHT, title, label, size_in=size_in)
    whiskers(axes, {name: (one.low, one.difference, one.high, _verdict(one)) for name, one in differences.items()})
    axes.grid(visible=True, axis="x", color=LIGHT.grid, linewidth=0.8)
    return axes


def _verdict(difference: PairedDifference) -> str:
    return "better" if difference.high < 0 else "worse" if difference.low > 0 else "undecided"


def whiskers(axes: Axes, rows: dict[str, tuple[float, float, float, str]]) -> None:
    """Dots with intervals beside a line at zero.

    Args:
        axes: to draw on.
        rows: low, difference, high and verdict by name, the first on top.
    """
    for place, (low, difference, high, verdict) in enumerate(reversed(rows.values())):
        colour = LIGHT.verdicts[verdict]
        axes.plot([low, high], [place, place], color=colour, linewidth=2.4, solid_capstyle="round")
        axes.scatter([difference], [place], color=colour, s=36, zorder=3)
    axes.axvline(0, color=LIGHT.ink, linewidth=1)
    axes.set_yticks(range(len(rows)), list(reversed(rows)), color=LIGHT.ink, fontsize=9)
    axes.grid(visible=False, axis="y")
