"""A constrained loss: its multiplier and constraint over the steps, and how sure the model is before and after."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dante.look.numbers import number
from dante.look.theme import SIZE_IN, Theme, panel, panels
from dante.report.evaluation import details
from dante.report.figures.curves import Row, series, stack
from dante.report.figures.training import suffix
from dante.report.one_run.constraint import Constraint, Spread, of_fit
from dante.report.one_run.results import rows_of
from dante.report.read import Run
from dante.report.words import MODELS

# Keys `<name>/<metric>` that are said here, so that no other figure repeats them.
SHOWN = ("multiplier", "coefficient", "violation", "excess", "bound", "threshold", "difficult_share",
         "difficult_entropy", "easy_entropy", "difficult_accuracy", "difficult_wrong", "easy_accuracy")  # fmt: skip
# More bars than this cannot be told apart.
BARS = 64
# Bars beyond which fewer tokens lie than this share are not drawn.
TAIL = 5e-4


def trace(one: Constraint, theme: Theme) -> Axes | None:
    """Multiplier, constraint and violation over the steps, and what the tokens on both sides of τ are like."""

    def line(metric: str, name: str = "") -> tuple[str, tuple[np.ndarray, np.ndarray]]:
        return name, series(one.fit.metrics, f"{one.name}/{metric}")

    end = one.end()
    level = next(iter(reversed(one.values("multiplier"))), None)
    held = "τ never frozen" if end is None else f"constraint {'held' if end.holds else 'not held'} at the end"
    if one.fixed is not None:
        held = "multiplier fixed"
    title = f"{one.name}: {held}" + (f", λ\u00a0{number(level)}" if level is not None else "") + suffix(one.fit)
    rows = [
        Row("multiplier λ, and μ as applied", [line("multiplier", "λ"), line("coefficient", "μ")]),
        Row("mean excess of the signal over τ, and its bound ε", [line("excess", "excess"), line("bound", "ε")]),
        Row("violation g = excess − ε (held at or below 0)", [line("violation")], level=0.0),
        Row("mean entropy, difficult and easy tokens (nats per token)",
            [line("difficult_entropy", "difficult"), line("easy_entropy", "easy")]),
        Row("accuracy, difficult tokens", [line("difficult_accuracy")]),
    ]  # fmt: skip
    return stack(theme, title, rows)


def difficult(one: Constraint, theme: Theme) -> Axes | None:
    """Tokens by their signal while τ was measured and at the end, right and wrong ones apart."""
    windows = {"before the constraint began": one.spread("before"), "last steps of training": one.spread("after")}
    spreads = {what: spread for what, spread in windows.items() if spread is not None}
    if not spreads:
        return None
    level = one.threshold
    signal = str(one.block.get("signal_axis") or one.block.get("signal", "signal"))
    height = 1.0 + 1.45 * len(spreads)
    all_axes = panels(
        theme, _finding(one.name, spreads, level) + suffix(one.fit), signal, len(spreads), (SIZE_IN[0], height)
    )
    low, high = _reach(list(spreads.values()), level)
    tops = []
    for axes, (what, spread) in zip(all_axes, spreads.items(), strict=True):
        axes.set_title(f"{what}: {spread.total:,.0f} tokens", loc="left", color=theme.muted, fontsize=8.5, pad=4)
        tops.append(_bars(axes, theme, spread, level, low, high))
    for axes in all_axes:
        axes.set_xlim(low, high)
        axes.set_ylim(0, 1.12 * max(tops))
        _shares(axes)
        if level is not None:
            axes.axvline(level, color=theme.ink, linewidth=1.2, linestyle=(0, (4, 3)))
    if level is not None:
        all_axes[0].annotate(f"τ = {number(level)}", (level, 1), (5, -9), xycoords=("data", "axes fraction"),
                             textcoords="offset points", color=theme.ink, fontsize=9)  # fmt: skip
    for place, (text, colour) in enumerate((("wrong", _wrong(theme)), ("right", _right(theme)))):
        all_axes[0].annotate(text, (1, 1), (-6, -10 - 14 * place), xycoords="axes fraction", textcoords="offset points",
                             ha="right", color=colour, fontsize=9.5, fontweight="bold")  # fmt: skip
    return all_axes[0]


def heldout(run: Run, theme: Theme) -> Axes | None:
    """Share of held-out tokens above each entropy, all and wrong ones, of every model."""
    blocks = details(run.evaluation, "entropy")
    read = {m: Spread.of(blocks[m].get("edges"), blocks[m]) for m in ("init", "teacher", "student") if m in blocks}
    spreads = {model: spread for model, spread in read.items() if spread is not None}
    if not spreads:
        return None
    mean = {row["model"]: row["value"] for row in rows_of(run, "heldout", "entropy_nats")}
    title = "How unsure each model is of held-out tokens"
    if {"student", "init"} <= mean.keys():
        title = f"Held out: {mean['student']:.2f} nats per token unsure, {mean['init']:.2f} before training"
    axes = panel(theme, title, "x, predictive entropy H / log V", "tokens with an entropy above x",
                 size_in=(SIZE_IN[0], 3.1))  # fmt: skip
    for place, (model, spread) in enumerate(spreads.items()):
        colour = theme.models[model]
        for counts, style in ((spread.right + spread.wrong, "-"), (spread.wrong, (0, (3, 2)))):
            above = np.concatenate([np.cumsum(counts[::-1])[::-1], [0.0]]) / spread.total
            axes.plot(spread.edges, above, color=colour, linewidth=2 if style == "-" else 1.5, linestyle=style)
        text = f"{MODELS[model]}: {spread.wrong.sum() / spread.total:.0%} wrong"
        axes.annotate(text, (1, 1), (-6, -12 - 15 * place), xycoords="axes fraction", textcoords="offset points",
                      ha="right", color=colour, fontsize=9.5, fontweight="bold")  # fmt: skip
    axes.set_xlim(0, _reach(list(spreads.values()), None)[1])
    axes.set_ylim(0, 1.02)
    _shares(axes)
    level = _predictive_threshold(run)
    if level is not None:
        axes.axvline(level, color=theme.muted, linewidth=1, linestyle=(0, (1, 2)))
        axes.annotate("τ", (level, 0), (4, 4), xycoords=("data", "axes fraction"), textcoords="offset points",
                      color=theme.muted, fontsize=9)  # fmt: skip
    return axes


def _finding(name: str, spreads: dict[str, Spread], level: float | None) -> str:
    """`Above τ: 20% → 9% of the tokens; right among these: 41% → 68%`."""
    if level is None:
        return f"{name}: signal of all tokens, τ never frozen"
    counts = [(spread.above(level), spread.total) for spread in spreads.values()]
    # Spaces that no line is broken at.
    arrow = "\u00a0→\u00a0"
    share = arrow.join(f"{sum(above) / total:.0%}" for above, total in counts)
    right = arrow.join(f"{above[0] / sum(above):.0%}" if sum(above) else "–" for above, _ in counts)
    return f"Above τ: {share} of the tokens; right among these: {right}"


def _bars(axes: Axes, theme: Theme, spread: Spread, level: float | None, low: float, high: float) -> float:
    """Right below, wrong on top, easy ones faint; returns the height of the tallest bar between the limits."""
    drawn = spread.coarser(BARS)
    left, width = drawn.edges[:-1], np.diff(drawn.edges)
    right, wrong = drawn.right / drawn.total, drawn.wrong / drawn.total
    easy = drawn.edges[1:] <= (-1.0 if level is None else level)
    for chosen, alpha in ((easy, 0.3), (~easy, 0.92)):
        bar: dict[str, Any] = {"align": "edge", "width": 0.92 * width[chosen], "alpha": alpha, "linewidth": 0}
        axes.bar(left[chosen], right[chosen], color=_right(theme), **bar)
        axes.bar(left[chosen], wrong[chosen], bottom=right[chosen], color=_wrong(theme), hatch="////",
                 edgecolor=theme.paper, **bar)  # fmt: skip
    inside = (drawn.edges[1:] > low) & (left < high)
    return float((right + wrong)[inside].max(initial=1e-9))


def _reach(spreads: list[Spread], level: float | None) -> tuple[float, float]:
    """From a little below τ (or 0) to where hardly a token lies beyond."""
    ends = []
    for spread in spreads:
        beyond = np.cumsum((spread.right + spread.wrong)[::-1])[::-1] / spread.total
        ends.append(float(spread.edges[1:][beyond > TAIL][-1]))
    high = max(ends)
    if level is None:
        return 0.0, high
    high = max(high, min(1.0, level + 0.1))
    return max(0.0, level - 0.12 * (high - level)), high


def _predictive_threshold(run: Run) -> float | None:
    """τ of the run's only constraint on predictive entropy."""
    constraints = [constraint for fit in run.fits for constraint in of_fit(fit)]
    levels = [
        constraint.threshold
        for constraint in constraints
        if constraint.block.get("signal", "predictive") == "predictive"
    ]
    return levels[0] if len(levels) == 1 else None


def _shares(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))


def _right(theme: Theme) -> str:
    return theme.models["student"]


def _wrong(theme: Theme) -> str:
    return theme.verdicts["worse"]
