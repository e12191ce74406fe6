"""Layer matching: the error of every unit, layer by layer and over training.

Drawn of whatever loss logs `<loss>/layer-<number>`: NMSE, the unit's squared error over the block's square.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dante.look.numbers import number
from dante.look.theme import Theme, panel
from dante.report.figures.curves import Points, series
from dante.report.figures.training import LAYER, suffix
from dante.report.read import Fit


def by_layer(fit: Fit, theme: Theme) -> Axes | None:
    """Every layer's error in the first and in the last logged steps."""
    points = _points(fit)
    if not points:
        return None
    layers = sorted(points)
    first = np.array([np.mean(points[layer][1][:3]) for layer in layers])
    last = np.array([np.mean(points[layer][1][-3:]) for layer in layers])
    worst = layers[int(last.argmax())]
    before, after = (number(float(values.mean())) for values in (first, last))
    title = f"Mean error of a unit went from {before} to {after}; layer {worst} is hardest"
    axes = panel(theme, f"{title}{suffix(fit)}", "layer", "NMSE")
    axes.vlines(layers, last, first, color=theme.grid, linewidth=2.4, zorder=1)
    for values, model, words in ((first, "init", "first steps"), (last, "student", "last steps")):
        axes.scatter(layers, values, s=30, color=theme.models[model], label=words, zorder=2)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, labelcolor=theme.ink, fontsize=9)
    return axes


def over_steps(fit: Fit, theme: Theme) -> Axes | None:
    """Every layer's error over training, and their mean."""
    points = _points(fit)
    if not points or len(next(iter(points.values()))[0]) < 2:
        return None
    steps = next(iter(points.values()))[0]
    every = np.stack([values for numbers, values in points.values() if len(numbers) == len(steps)])
    axes = panel(theme, f"Error of every unit over training{suffix(fit)}", "optimizer step", "NMSE")
    for values in every:
        axes.plot(steps, values, color=theme.muted, linewidth=0.7, alpha=0.6)
    axes.plot(steps, every.mean(0), color=theme.models["student"], linewidth=2.2, label="mean of layers")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, labelcolor=theme.ink, fontsize=9)
    return axes


def _points(fit: Fit) -> dict[int, Points]:
    """Steps and errors by layer."""
    keys = {key for row in fit.metrics for key in row if LAYER.match(key)}
    found = {int(match["number"]): series(fit.metrics, key) for key in keys if (match := LAYER.match(key))}
    return {layer: points for layer, points in found.items() if len(points[0])}
