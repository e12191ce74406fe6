"""Where the time went."""

import math

from matplotlib.axes import Axes

from dante.look.theme import SIZE_IN, Theme, panel
from dante.report.read import Run
from dante.report.words import duration

# Name of an axis' unit, its length in seconds, and the longest time that is drawn in it.
UNITS = (("seconds", 1, 120.0), ("minutes", 60, 7200.0), ("hours", 3600, math.inf))


def time_per_step(run: Run, theme: Theme) -> Axes | None:
    """Wall time of every step, in the order of the recipe."""
    times = {label: step["wall_s"] for label, step in run.steps.items() if step.get("wall_s") is not None}
    total = sum(times.values())
    if not total:
        return None
    longest = max(times, key=lambda label: times[label])
    title = f"{times[longest] / total:.0%} of {duration(total)} went into {longest}"
    unit, length_s = next(item for item in UNITS if times[longest] < item[2])[:2]
    axes = panel(theme, title, f"wall time ({unit})", size_in=(SIZE_IN[0], 1.0 + 0.27 * len(times)))
    trained = {fit.label for fit in run.fits}
    for place, (label, seconds) in enumerate(reversed(times.items())):
        colour = theme.models["student"] if label in trained else theme.muted
        axes.barh(place, seconds / length_s, color=colour, height=0.62)
        axes.annotate(duration(seconds), (seconds / length_s, place), (5, 0), textcoords="offset points", va="center",
                      color=theme.ink, fontsize=9)  # fmt: skip
    axes.set_yticks(range(len(times)), list(reversed(times)), fontsize=9.5, color=theme.ink)
    axes.set_xlim(0, times[longest] / length_s * 1.28)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=theme.grid, linewidth=0.8)
    return axes
