"""How likely the teacher finds what each selector keeps of its answers."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from dante.look.theme import SIZE_IN, Theme, panel
from dante.report.read import Run

# All candidates, and the two that the paper compares: eight curves on top of each other tell nothing.
SHOWN = ("all", "random", "max_teacher_sentences")
_SMOOTH = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0  # binomial: bins next to each other are joined


def densities(run: Run, temperature: str, theme: Theme) -> Axes | None:
    """Densities of response probabilities under selectors, at one temperature."""
    selectors = run.sentences["temperatures"][temperature]["selectors"]
    shown = {name: selectors[name] for name in SHOWN if name in selectors}
    if not shown:
        return None
    chosen = shown.get("max_teacher_sentences", next(iter(shown.values())))
    title = f"At T={temperature} the rule shifts response probabilities by {chosen['shift']:.2f}"
    axes = panel(theme, title, "response probability under the teacher", "density", (SIZE_IN[0], 3.0))
    for index, (name, one) in enumerate(shown.items()):
        counts = np.array(one["histogram"], dtype=np.float64)
        density = np.convolve(counts, _SMOOTH, mode="same") / max(counts.sum(), 1.0) * len(counts)
        middles = (np.arange(len(counts)) + 0.5) / len(counts)
        colour = theme.muted if name == "all" else theme.cycle[index]
        words = "all candidates" if name == "all" else f"{name} (mean {one['probability']:.2f})"
        axes.plot(middles, density, color=colour, linewidth=3.2 if name == "all" else 1.8, label=words)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.45 * axes.get_ylim()[1])  # room for the legend, wherever the curves stand
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.legend(frameon=False, labelcolor=theme.ink, fontsize=8, loc="upper left")
    return axes
