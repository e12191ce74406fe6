"""Agreement with the teacher and KL, before and after training: by position in an answer, and by the teacher's entropy.

Read from the details that the suite of held-out answers leaves where teacher and student share a vocabulary. Bins are
drawn equally wide, with their borders below them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dante.look.theme import SIZE_IN, Theme, panels
from dante.report.evaluation import details
from dante.report.figures.curves import label_ends
from dante.report.read import Json, Run
from dante.report.words import MODELS, compact

# Of a normal distribution: 95 % lie within so many standard errors.
REACH = 1.96
NETWORKS = ("init", "student")
PANELS = {"agreement": "same most likely token as the teacher", "kl_nats": "KL(teacher ‖ model), nats per token"}

Tables = Mapping[str, Sequence[Json]]


def by_position(run: Run, theme: Theme) -> Axes | None:
    """From the beginning of an answer to its end."""
    tables = _tables(run, "position")
    title = "Agreement with the teacher along an answer"
    ends = _ends(tables)
    if ends is not None:
        title = f"Agreement with the teacher: {ends[0]:.0%} where answers begin, {ends[1]:.0%} late in long ones"
    return _draw(tables, theme, title, "position in the answer (tokens)")


def by_entropy(run: Run, theme: Theme) -> Axes | None:
    """From tokens that the teacher is sure of to those where it is not."""
    tables = _tables(run, "entropy")
    title = "Agreement with the teacher by its entropy"
    ends = _ends(tables)
    if ends is not None:
        title = f"Agreement with the teacher: {ends[0]:.0%} where it is surest, {ends[1]:.0%} where it is least sure"
    return _draw(tables, theme, title, "the teacher's entropy (nats)")


def _tables(run: Run, kind: str) -> Tables:
    """Model → its bins."""
    told = details(run.evaluation, "agreement")
    return {model: told[model][kind] for model in NETWORKS if model in told}


def _ends(tables: Tables) -> tuple[float, float] | None:
    """The student's agreement in its first and last bin, where it has two."""
    filled = [one["agreement"] for one in tables.get("student", ()) if one["tokens"]]
    return (filled[0], filled[-1]) if len(filled) > 1 else None


def _draw(tables: Tables, theme: Theme, title: str, x: str) -> Axes | None:
    shown = [place for place in _places(tables) if any(bins[place]["tokens"] for bins in tables.values())]
    if not shown:
        return None
    first, last = shown[0], shown[-1]
    all_axes = panels(theme, title, x, 3, (SIZE_IN[0], 4.4))
    for axes, (metric, label) in zip(all_axes, PANELS.items(), strict=False):
        axes.set_title(label, loc="left", color=theme.muted, fontsize=8.5, pad=4)
        _curves(axes, theme, tables, metric)
    all_axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    bins = next(iter(tables.values()))
    _counts(all_axes[2], theme, bins, shown)
    all_axes[2].set_xlim(first - 0.6, last + 0.6)
    borders = [bins[place]["low"] for place in range(first, last + 1)] + [bins[last]["high"]]
    all_axes[2].set_xticks(
        np.arange(first, last + 2) - 0.5, ["" if border is None else f"{border:g}" for border in borders]
    )
    all_axes[2].tick_params(axis="x", labelsize=8)
    return all_axes[0]


def _places(tables: Tables) -> range:
    return range(max((len(bins) for bins in tables.values()), default=0))


def _curves(axes: Axes, theme: Theme, tables: Tables, metric: str) -> None:
    """Every model's values with 95 % intervals over answers, and its name at the end."""
    labels = []
    for model, bins in tables.items():
        filled = [(place, one) for place, one in enumerate(bins) if one["tokens"]]
        places, values = [place for place, _ in filled], [one[metric] for _, one in filled]
        reach = [REACH * (one[f"{metric}_stderr"] or 0.0) for _, one in filled]
        colour = theme.models[model]
        axes.errorbar(places, values, yerr=reach, color=colour, linewidth=2, elinewidth=1.1, marker="o", markersize=4)
        labels.append((float(places[-1]), float(values[-1]), MODELS[model], colour))
    low, high = axes.get_ylim()
    high = min(high, 1.03) if metric == "agreement" else high
    axes.set_ylim(max(low, -0.05 * high), high)  # nothing is below 0, but a dot there is drawn whole
    axes.yaxis.set_major_locator(MaxNLocator(4))
    label_ends(axes, theme, labels)


def _counts(axes: Axes, theme: Theme, bins: Sequence[Json], shown: Sequence[int]) -> None:
    """How many tokens each bin has: the same ones for every model."""
    axes.set_title("tokens", loc="left", color=theme.muted, fontsize=8.5, pad=4)
    axes.bar(shown, [bins[place]["tokens"] for place in shown], width=0.94, color=theme.muted, alpha=0.45)
    for place in shown:
        axes.annotate(compact(bins[place]["tokens"]), (place, bins[place]["tokens"]), (0, 2), ha="center",
                      textcoords="offset points", color=theme.muted, fontsize=7.5)  # fmt: skip
    axes.set_ylim(0, 1.25 * max(bins[place]["tokens"] for place in shown))
    axes.set_yticks([])
