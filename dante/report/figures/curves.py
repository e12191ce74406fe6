"""Curves over optimizer steps: thinning, smoothing, and stacks of panels that share their steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dante.look.numbers import number
from dante.look.theme import SIZE_IN, Theme, panels
from dante.report.read import Json

Points = tuple[Float64[np.ndarray, "points"], Float64[np.ndarray, "points"]]
# The same where several stand beside each other, of different lengths.
AnyPoints = tuple[Float64[np.ndarray, "_"], Float64[np.ndarray, "_"]]
# A figure is 900 pixels wide: more points than this cannot be seen, and averaging them costs their square.
MOST_POINTS = 2000
# A value this many times above nearly all others is a spike: it must not flatten everything else.
SPIKE = 3.0


@dataclass(frozen=True)
class Row:
    """One panel of a stack.

    Attributes:
        label: what is shown, with its unit; stands above the panel.
        lines: (name at the end of the line, steps and values); an only line needs no name.
        level: a value to draw a rule at, e.g. a limit; None: no rule.
    """

    label: str
    lines: Sequence[tuple[str, AnyPoints]]
    level: float | None = None


def stack(theme: Theme, title: str, rows: Sequence[Row]) -> Axes | None:
    """Panels below each other, one per row with at least two points; every line ends in its last value."""
    drawn = [Row(r.label, [line for line in r.lines if len(line[1][0]) >= 2], r.level) for r in rows]
    drawn = [row for row in drawn if row.lines]
    if not drawn:
        return None
    height = SIZE_IN[1] if len(drawn) == 1 else 0.7 + 1.08 * len(drawn)
    all_axes = panels(theme, title, "optimizer step", len(drawn), (SIZE_IN[0], height))
    for place, (axes, row) in enumerate(zip(all_axes, drawn, strict=True)):
        axes.set_title(row.label, loc="left", color=theme.muted, fontsize=8.5, pad=4)
        _lines(axes, theme, row, place)
    return all_axes[0]


def _lines(axes: Axes, theme: Theme, row: Row, place: int) -> None:
    """One panel's lines, in colours of their own from panel to panel."""
    labels, tops = [], []
    for index, (name, (steps, values)) in enumerate(row.lines):
        colour = theme.cycle[(place + index) % len(theme.cycle)]
        shown = draw(axes, steps, values, colour)
        text = f"{name} {number(float(shown[-1]))}".strip()
        labels.append((float(steps[-1]), float(shown[-1]), text, colour))
        usual = float(np.quantile(values, 0.99))
        spiked = is_noisy(values) and values.max() > SPIKE * usual > 0
        tops.append(max(usual, float(shown.max())) if spiked else float(values.max()))
    all_values = np.concatenate([values for _, (_, values) in row.lines])
    low, high = float(all_values.min()), max(tops)
    if row.level is not None:
        low, high = min(low, row.level), max(high, row.level)
        axes.axhline(row.level, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    label_ends(axes, theme, labels)


def series(metrics: Sequence[Json], key: str) -> Points:
    """Steps and values of one key, without the lines that do not have it or where it is not finite."""
    pairs = [(row["step"], row[key]) for row in metrics if isinstance(row.get(key), int | float)]
    points = np.array([pair for pair in pairs if np.isfinite(pair[1])], dtype=np.float64).reshape(-1, 2)
    return thinned((points[:, 0], points[:, 1]))


def names(metrics: Sequence[Json], prefix: str) -> list[str]:
    """`<name>` of all keys `<prefix>/<name>`, in order of appearance."""
    return list(dict.fromkeys(key.split("/", 1)[1] for row in metrics for key in row if key.startswith(f"{prefix}/")))


def smooth(values: Float64[np.ndarray, "points"], parts: int = 50) -> Float64[np.ndarray, "points"]:
    """Gaussian moving average as wide as a fiftieth (or another part) of the curve, centred: it lags behind nothing."""
    place = np.arange(len(values))
    weights = np.exp(-0.5 * np.square((place[:, None] - place[None, :]) / max(1.0, len(values) / parts)))
    return weights @ values / weights.sum(axis=1)


def is_noisy(values: Float64[np.ndarray, "points"]) -> bool:
    """Whether a curve jitters from point to point: a schedule does not, and averaging would only round its corners."""
    if len(values) < 20:
        return False
    jitter = float(np.median(np.abs(np.diff(values, n=2))))
    return jitter > 0.004 * float(values.max() - values.min())


def thinned(xy: Points, points: int = MOST_POINTS) -> Points:
    """At most so many points, evenly spaced, the last one included."""
    keep = np.unique(np.linspace(0, len(xy[0]) - 1, points).round().astype(int)) if len(xy[0]) > points else slice(None)
    return xy[0][keep], xy[1][keep]


def draw(axes: Axes, steps: Any, values: Any, colour: str) -> Float64[np.ndarray, "points"]:
    """A curve; a noisy one faint, below its moving average. Returns what was drawn boldly."""
    if not is_noisy(values):
        axes.plot(steps, values, color=colour, linewidth=2)
        return values
    axes.plot(steps, values, color=colour, linewidth=0.9, alpha=0.3)
    average = smooth(values)
    axes.plot(steps, average, color=colour, linewidth=2)
    return average


def label_ends(axes: Axes, theme: Theme, labels: Sequence[tuple[float, float, str, str]]) -> None:
    """Names at the right end of their lines, pushed apart where they would overlap."""
    axes.margins(x=0.02)
    transform = axes.transData
    placed: list[float] = []
    for x, y, text, colour in sorted(labels, key=lambda label: label[1]):
        height = transform.transform((x, y))[1]
        target = height
        if placed and target - placed[-1] < 24:
            target = placed[-1] + 24
        placed.append(target)
        offset = (target - height) * 72 / axes.figure.dpi
        axes.annotate(text, (x, y), (6, offset), textcoords="offset points", va="center", color=colour, fontsize=9,
                      fontweight="bold", annotation_clip=False)  # fmt: skip
