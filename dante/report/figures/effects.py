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
    for place, difference in enumerate(reversed(differences.values())):
        colour = LIGHT.verdicts["better" if difference.high < 0 else "worse" if difference.low > 0 else "undecided"]
        axes.plot(
            [difference.low, difference.high], [place, place], color=colour, linewidth=2.4, solid_capstyle="round"
        )
        axes.scatter([difference.difference], [place], color=colour, s=36, zorder=3)
    axes.axvline(0, color=LIGHT.ink, linewidth=1)
    axes.set_yticks(range(len(differences)), list(reversed(differences)), color=LIGHT.ink, fontsize=9)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=LIGHT.grid, linewidth=0.8)
    return axes
