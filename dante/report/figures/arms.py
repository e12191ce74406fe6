"""Arms beside each other: differences with intervals, learning curves with bands, quality against compute, tuning.

Every arm's name stands in the figure: there are more arms than colours that can be told apart.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dante.look.numbers import flops
from dante.look.theme import SIZE_IN, Theme, grid, panel
from dante.report.figures.curves import label_ends
from dante.report.words import compact

# Positions and values; curves of several runs have different lengths.
Curve = tuple[Any, Any]
# More lines than this in one panel are a tangle: then every arm has a panel of its own.
MOST_LINES = 4
COLUMNS = 3
MOST_TICKS = 6
MEAN_POINTS = 200
# Costs nearer than this factor are drawn as one, and their spreads would cover each other.
APART = 1.02
# Height of a line of names beside an axis, and how many of their characters fit beside it.
LINE_IN, NAME_CHARACTERS = 0.145, 22


@dataclass(frozen=True)
class Bar:
    """One arm's difference from the baseline with its interval and verdict."""

    arm: str
    difference: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Spot:
    """One arm's quality at its cost; `spread` is the standard deviation over seeds, or 0."""

    arm: str
    cost: float
    value: float
    spread: float
    baseline: bool


def forest(bars: Sequence[Bar], title: str, label: str, baseline: str, theme: Theme) -> Axes | None:
    """Differences, best on top; a coloured one is significant after correction."""
    if not bars:
        return None
    axes = panel(theme, title, label, size_in=(SIZE_IN[0], 1.25 + 0.4 * len(bars)))
    for place, bar in enumerate(reversed(bars)):
        colour = theme.verdicts.get(bar.verdict, theme.muted)
        axes.plot([bar.low, bar.high], [place, place], color=colour, linewidth=2.6, solid_capstyle="round", zorder=4)
        axes.scatter([bar.difference], [place], color=colour, s=34, zorder=5)
        text = f"{bar.arm}: {bar.verdict}" if bar.verdict else bar.arm
        axes.annotate(text, (0, place), (0, 5), xycoords=("axes fraction", "data"), textcoords="offset points",
                      color=colour if bar.verdict != "undecided" else theme.ink, fontsize=8.5,
                      bbox={"facecolor": theme.paper, "edgecolor": "none", "pad": 0.6})  # fmt: skip
    axes.axvline(0, color=theme.ink, linewidth=1)
    axes.annotate(baseline, (0, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
                  ha="center", color=theme.muted, fontsize=8.5, annotation_clip=False)  # fmt: skip
    low, high = min([0.0, *(bar.low for bar in bars)]), max([0.0, *(bar.high for bar in bars)])
    margin = 0.06 * (high - low) or 1.0
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(-0.5, len(bars) - 0.3)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(visible=True, axis="x", color=theme.grid, linewidth=0.8)
    return axes


def learning(
    arms: Mapping[str, Sequence[Curve]], title: str, x: str, y: str, baseline: str, theme: Theme
) -> Axes | None:
    """Mean over seeds with a band from the lowest to the highest; many arms have panels of their own.

    Args:
        arms: name → curves of its seeds, smoothed.
        title: of the figure.
        x: what the curves run over.
        y: what they are.
        baseline: the arm that stands in grey behind every other one.
        theme: edition.
    """
    bands = {arm: band(curves) for arm, curves in arms.items() if curves}
    if not bands:
        return None
    if len(bands) <= MOST_LINES:
        axes = panel(theme, title, x, y)
        ends = []
        for index, (arm, (at, low, mean, high)) in enumerate(bands.items()):
            colour = theme.muted if arm == baseline else theme.cycle[index % len(theme.cycle)]
            axes.fill_between(at, low, high, color=colour, alpha=0.22, linewidth=0)
            axes.plot(at, mean, color=colour, linewidth=1.9)
            ends.append((float(at[-1]), float(mean[-1]), arm, colour))
        _tidy(axes, bands.values())
        label_ends(axes, theme, ends)
        return axes
    shown = [arm for arm in bands if arm != baseline]
    all_axes = _multiples(theme, title, x, len(shown))
    for axes, arm in zip(all_axes, shown, strict=False):
        if baseline in bands:
            axes.plot(bands[baseline][0], bands[baseline][2], color=theme.muted, linewidth=1.1)
        at, low, mean, high = bands[arm]
        axes.fill_between(at, low, high, color=theme.models["student"], alpha=0.25, linewidth=0)
        axes.plot(at, mean, color=theme.models["student"], linewidth=1.5)
        axes.set_title(_wrapped(arm), loc="left", color=theme.ink, fontsize=7.5, pad=3)
    _tidy(all_axes[0], bands.values())
    return all_axes[0]


def pareto(spots: Sequence[Spot], title: str, x: str, y: str, theme: Theme) -> Axes | None:
    """Quality (lower is better) against compute; arms that no other beats in both are joined."""
    priced_spots = sorted((spot for spot in spots if spot.cost > 0), key=lambda spot: (spot.cost, spot.value))
    if not priced_spots:
        return None
    axes = panel(
        theme,
        title,
        x,
        y,
        size_in=(SIZE_IN[0], max(2.8, 1.0 + _lines(priced_spots) * LINE_IN)),
    )
    leading = front(priced_spots)
    low, high = priced_spots[0].cost, priced_spots[-1].cost
    for spot in priced_spots:
        colour = theme.muted if spot.baseline else theme.models["student"]
        first = spot in leading
        if spot.spread and high > APART * low:
            axes.plot([spot.cost] * 2, [spot.value - spot.spread, spot.value + spot.spread], color=colour, alpha=0.45,
                      linewidth=1.4)  # fmt: skip
        axes.scatter([spot.cost], [spot.value], s=46, color=colour if first else theme.paper, edgecolors=colour,
                     linewidths=1.6, zorder=3)  # fmt: skip
    if len(leading) > 1:
        axes.step([s.cost for s in leading], [s.value for s in leading], where="post", color=theme.ink, linewidth=1.1)
    if high > 3 * low:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.6, high * 1.6)
        axes.minorticks_off()
    else:
        reach = max(high - low, 0.06 * high)
        axes.set_xlim(low - 0.35 * reach, high + 0.35 * reach)
        axes.set_xticks([low, high] if high > APART * low else [high])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: flops(value)))
    _names_beside(axes, theme, priced_spots, leading)
    return axes


def tuning(scores: Mapping[str, Mapping[str, float]], chosen: Mapping[str, str], at_edge: Set[str], title: str, x: str,
           y: str, theme: Theme) -> Axes | None:  # fmt: skip
    """Validation score by tried value; the chosen one is filled, and marked where it lies at the edge of the grid.

    Many values (a search) have no ticks of their own.
    """
    shown = {
        arm: sorted((float(value), score) for value, score in tried.items()) for arm, tried in scores.items() if tried
    }
    if not shown:
        return None
    tried = sorted({value for points in shown.values() for value, _ in points})
    if len(shown) <= MOST_LINES:
        all_axes = [panel(theme, title, x, y)] * len(shown)
    else:
        all_axes = _multiples(theme, title, x, len(shown))
    ends = []
    for index, (axes, (arm, points)) in enumerate(zip(all_axes, shown.items(), strict=False)):
        alone = len(shown) > MOST_LINES
        colour = theme.models["student"] if alone else theme.cycle[index % len(theme.cycle)]
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.5, marker="o", markersize=5,
                  markerfacecolor=theme.paper, markeredgecolor=colour)  # fmt: skip
        for value, score in points:
            if arm in chosen and value == float(chosen[arm]):
                marked = theme.verdicts["worse"] if arm in at_edge else colour
                axes.scatter([value], [score], s=52, zorder=4, color=marked)
        ends.append((points[-1][0], points[-1][1], arm, colour))
        if alone:
            axes.set_title(_wrapped(arm), loc="left", color=theme.ink, fontsize=7.5, pad=3)
    for axes in all_axes:
        if tried[0] > 0:
            axes.set_xscale("log")
            axes.minorticks_off()
        if len(tried) <= MOST_TICKS:
            axes.set_xticks(tried, [f"{value:g}" for value in tried], fontsize=7.5 if len(shown) > MOST_LINES else 8.5)
    if len(shown) <= MOST_LINES:
        label_ends(all_axes[0], theme, ends)
    return all_axes[0]


def band(curves: Sequence[Curve]) -> tuple[Any, Any, Any, Any]:
    """Positions, lowest, mean and highest over seeds, where all seeds have values."""
    start, end = max(float(x[0]) for x, _ in curves), min(float(x[-1]) for x, _ in curves)
    at = np.linspace(start, end, MEAN_POINTS)
    values = np.stack([np.interp(at, x, y) for x, y in curves])
    return at, values.min(axis=0), values.mean(axis=0), values.max(axis=0)


def front(spots: Sequence[Spot]) -> list[Spot]:
    """Those that no other equals or beats in cost and value, by rising cost."""
    leading: list[Spot] = []
    for spot in sorted(spots, key=lambda candidate: (candidate.cost, candidate.value)):
        if not leading or spot.value < leading[-1].value:
            leading.append(spot)
    return leading


def _multiples(theme: Theme, title: str, x: str, count: int) -> list[Axes]:
    """Small panels in rows of three; those that are not needed are not drawn."""
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    all_axes = grid(theme, title, rows, columns, (SIZE_IN[0], 0.75 + 1.12 * rows))
    for axes in all_axes:
        axes.tick_params(labelsize=7)
    for axes in all_axes[count:]:
        axes.set_visible(False)
    for column in range(columns):
        last = max(place for place in range(count) if place % columns == column)
        all_axes[last].tick_params(labelbottom=True)
    figure: Any = all_axes[0].figure
    figure.supxlabel(x, color=theme.muted, fontsize=8.5)
    return all_axes


def _tidy(axes: Axes, bands: Any) -> None:
    """The last four fifths of the curves decide the height: the first steps are far above everything else."""
    late = [(low[len(low) // 5 :], high[len(high) // 5 :]) for _, low, _, high in bands]
    bottom, top = min(float(low.min()) for low, _ in late), max(float(high.max()) for _, high in late)
    axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))


def _wrapped(arm: str, width: int = 19) -> str:
    """An arm's name in lines of a small panel's width, broken where it has a mark."""
    lines, line = [], ""
    for piece in arm.replace("-", "-\n").replace("_", "_\n").replace(" ", " \n").split("\n"):
        if line and len(line) + len(piece) > width:
            lines.append(line)
            line = ""
        line += piece
    return "\n".join([*lines, line])


def _lines(spots: Sequence[Spot]) -> int:
    """Lines that all names take beside an axis."""
    return sum(_wrapped(spot.arm, NAME_CHARACTERS).count("\n") + 1 for spot in spots)


def _names_beside(axes: Axes, theme: Theme, spots: Sequence[Spot], leading: Sequence[Spot]) -> None:
    """Names right of the axes in the order of their values, each with a thin line to its point."""
    bottom, top = axes.get_ylim()
    figure: Any = axes.figure
    line = (top - bottom) * LINE_IN / (figure.get_size_inches()[1] - 0.95)
    ordered = sorted(spots, key=lambda named_spot: named_spot.value)
    names = [_wrapped(spot.arm, NAME_CHARACTERS) for spot in ordered]
    half = [line * (name.count("\n") + 1) / 2 for name in names]
    places: list[float] = []
    for index, spot in enumerate(ordered):
        least = places[-1] + half[index - 1] + half[index] if places else bottom + half[0]
        places.append(max(spot.value, least))
    most = top + line / 2
    for index in reversed(range(len(places))):
        places[index] = min(places[index], most - half[index])
        most = places[index] - half[index]
    for spot, name, place in zip(ordered, names, places, strict=True):
        axes.annotate(name, (spot.cost, spot.value), (1.05, place), xycoords="data", va="center", fontsize=8,
                      textcoords=("axes fraction", "data"), fontweight="bold" if spot in leading else "normal",
                      color=theme.muted if spot.baseline else theme.ink, annotation_clip=False, zorder=1,
                      arrowprops={"arrowstyle": "-", "color": theme.muted, "linewidth": 0.5, "shrinkB": 4,
                                  "relpos": (0, 0.5)})  # fmt: skip
