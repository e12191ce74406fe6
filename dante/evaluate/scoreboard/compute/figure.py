"""Capability against A100-hours on a logarithmic axis, as the DANTE card draws it.

Names stand beside the axes with a thin line to their points, so that no name covers a point or another name.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator
from scipy.optimize import isotonic_regression

from dante.evaluate.scoreboard.compute.capability import Capability, Point
from dante.look.numbers import number
from dante.look.theme import SIZE_IN, Theme, panel

# Height of a line of a name, lines between two names, characters of a line, and what title, axis and margins take.
LINE_IN, GAP_LINES, CHARACTERS, FRAME_IN = 0.15, 0.5, 40, 1.05
# Axes reach this factor beyond the outermost points.
MARGIN = 2.5

CAPTION = (
    "Filled: measured here, with its standard error over items. Hollow: as its card has it. A line to the right ends "
    "at the hours with the teacher's answers."
)


def draw(content: Capability, theme: Theme) -> Axes | None:
    """The figure, or None without a point."""
    points = sorted(content.points, key=lambda point: point.value)
    if not points:
        return None
    names = [_name(point) for point in points]
    size = (1.6 * SIZE_IN[0], max(3.2, FRAME_IN + sum(map(_height_in, names))))
    axes = panel(theme, _title(content), "A100-hours of training (logarithmic)", "score, per cent", size)
    for point in points:
        _mark(axes, point, theme)
    _frame(axes, points)
    _names(axes, points, names, theme, size[1] - FRAME_IN)
    return axes


def _title(content: Capability) -> str:
    if len(content.names) == 1:
        return f"{content.names[0]} against training compute"
    return f"Mean of {len(content.names)} benchmarks against training compute"


def _name(point: Point) -> str:
    return "\n".join(textwrap.wrap(f"{point.name}: {point.value:.1f} at {number(point.hours)} h", CHARACTERS))


def _height_in(name: str) -> float:
    return LINE_IN * (name.count("\n") + 1 + GAP_LINES)


def _mark(axes: Axes, point: Point, theme: Theme) -> None:
    colour = theme.models["student"] if point.ours else theme.muted
    if point.with_teacher is not None and point.with_teacher > point.hours:
        axes.plot([point.hours, point.with_teacher], [point.value] * 2, color=colour, linewidth=1.4, marker="|",
                  markevery=[1], markersize=7, zorder=2)  # fmt: skip
    if point.stderr:
        axes.plot([point.hours] * 2, [point.value - point.stderr, point.value + point.stderr], color=colour,
                  alpha=0.55, linewidth=1.6, zorder=3)  # fmt: skip
    axes.scatter([point.hours], [point.value], s=46, color=colour if point.ours else theme.paper, edgecolors=colour,
                 linewidths=1.6, zorder=4)  # fmt: skip


def _frame(axes: Axes, points: Sequence[Point]) -> None:
    """Whole decades of hours, and room above and below the scores."""
    axes.set_xscale("log")
    ends = [hours for point in points for hours in (point.hours, point.with_teacher) if hours]
    axes.set_xlim(min(ends) / MARGIN, max(ends) * MARGIN)
    axes.xaxis.set_major_locator(LogLocator(numticks=7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda hours, _: number(hours)))
    axes.minorticks_off()
    reach = [point.value + sign * (point.stderr or 0.0) for point in points for sign in (-1, 1)]
    margin = 0.12 * (max(reach) - min(reach)) or 5.0
    axes.set_ylim(min(reach) - margin, max(reach) + 2 * margin)


def _names(axes: Axes, points: Sequence[Point], names: Sequence[str], theme: Theme, height_in: float) -> None:
    """Names right of the axes in the order of their scores, pushed apart where they would touch."""
    bottom, top = axes.get_ylim()
    halves = [_height_in(name) / 2 * (top - bottom) / height_in for name in names]
    places = _apart([point.value for point in points], halves, bottom, top)
    for point, name, place in zip(points, names, places, strict=True):
        style: dict[str, Any] = {"arrowstyle": "-", "color": theme.muted, "linewidth": 0.5, "alpha": 0.6, "shrinkB": 4,
                                 "relpos": (0, 0.5)}  # fmt: skip
        axes.annotate(name, (point.hours, point.value), (1.04, place), xycoords="data", va="center", fontsize=8,
                      textcoords=("axes fraction", "data"), color=theme.ink if point.ours else theme.muted,
                      fontweight="bold" if point.ours else "normal", annotation_clip=False, zorder=1,
                      arrowprops=style)  # fmt: skip


def _apart(wanted: Sequence[float], halves: Sequence[float], bottom: float, top: float) -> list[float]:
    """Places in the order of those wanted, their half heights apart, inside the axes, with the least squared shift.

    With the distances taken off, the order is all that is left to keep: an isotonic regression, then its bounds.
    """
    half = np.array(halves)
    offsets = np.concatenate([[0.0], np.cumsum(half[:-1] + half[1:])])
    free = isotonic_regression(np.array(wanted) - offsets).x
    return list(np.clip(free, bottom + half[0], top - half[-1] - offsets[-1]) + offsets)
