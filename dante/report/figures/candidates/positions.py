"""Where sentences of a type stand, in right and in wrong answers."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dante.look.theme import Theme, grid
from dante.report.figures.fidelity import REACH
from dante.report.read import Run

RIGHT, WRONG = "right answers", "wrong answers"


def by_position(run: Run, temperature: str, theme: Theme) -> Axes | None:
    """One panel per type: its share of the sentences at each position, over right and over wrong answers."""
    shown = {name: one for name, one in run.sentences["after"]["positions"][temperature].items() if one}
    if not shown:
        return None
    teacher = shown.get("teacher")
    title = f"T={temperature}: types of sentences along right and wrong answers"
    if teacher is not None:
        title = (
            f"T={temperature}: teacher sentences, area between right and wrong answers {teacher['area']:+.0f} points"
        )
    rows = (len(shown) + 1) // 2
    all_axes = grid(theme, title, rows, 2, (4.4, 0.9 + 1.9 * rows))
    for axes, (name, one) in zip(all_axes, shown.items(), strict=False):
        places = np.arange(1, len(one["right"]) + 1)
        label = f"{name}: area {one['area']:+.1f}\n({one['low']:+.1f} to {one['high']:+.1f})"
        axes.set_title(label, loc="left", color=theme.muted, fontsize=7.5, pad=4)
        for side, values, colour, words in (
            (0, one["right"], theme.models["teacher"], RIGHT),
            (1, one["wrong"], theme.models["init"], WRONG),
        ):
            shares, counts = np.array(values), np.array([pair[side] for pair in one["answers"]])
            reach = REACH * np.sqrt(shares * (1 - shares) / np.maximum(counts, 1))
            low, high = np.maximum(shares - reach, 0), np.minimum(shares + reach, 1)
            axes.fill_between(places, low, high, color=colour, alpha=0.16, linewidth=0)
            axes.plot(places, shares, color=colour, linewidth=1.8, marker="o", markersize=3, label=words)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in all_axes[len(shown) :]:
        axes.set_visible(False)
    for axes in all_axes[-2:]:
        axes.set_xlabel("sentence of the answer", color=theme.muted, fontsize=8.5)
    all_axes[0].legend(frameon=False, labelcolor=theme.ink, fontsize=7.5)
    return all_axes[0]
