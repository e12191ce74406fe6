"""Where the time went, and what capability cost in training compute."""

from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes

from dante.report.figures.curves import is_noisy, smooth
from dante.report.read import Fit, Run
from dante.report.recipe import curriculum
from dante.report.results import scores
from dante.report.theme import SIZE_IN, Theme, panel
from dante.report.words import MODELS, duration, flops

REFERENCES = ("teacher", "trigram", "unigram")


def time_per_step(run: Run, theme: Theme) -> Axes | None:
    """Wall time of every step, in the order of the recipe."""
    times = {label: step["wall_s"] for label, step in run.steps.items() if step.get("wall_s") is not None}
    total = sum(times.values())
    if not total:
        return None
    longest = max(times, key=lambda label: times[label])
    title = f"{times[longest] / total:.0%} of {duration(total)} went into {longest}"
    axes = panel(theme, title, "wall time (minutes)", size_in=(SIZE_IN[0], 1.0 + 0.27 * len(times)))
    trained = {fit.label for fit in run.fits}
    for place, (label, seconds) in enumerate(reversed(times.items())):
        colour = theme.models["student"] if label in trained else theme.muted
        axes.barh(place, seconds / 60, color=colour, height=0.62)
        axes.annotate(duration(seconds), (seconds / 60, place), (5, 0), textcoords="offset points", va="center",
                      color=theme.ink, fontsize=9)  # fmt: skip
    axes.set_yticks(range(len(times)), list(reversed(times)), fontsize=9.5, color=theme.ink)
    axes.set_xlim(0, times[longest] / 60 * 1.28)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=theme.grid, linewidth=0.8)
    return axes


def capability(run: Run, theme: Theme) -> Axes | None:
    """Bits per byte of held-out answers against training FLOPs; what did not train here is a line or stands at 0.

    The curve between is the training cross-entropy in the same unit, of train answers: its level is not comparable
    with the points where a curriculum chose which answers came when, so it is drawn faintly and says what it is.
    """
    level = {row["model"]: row["value"] for row in scores(run)}
    spent = sum(fit.summary.get("flops", 0.0) for fit in run.fits)
    if "student" not in level or not spent:
        return None
    curve = learning_curve(run)
    start = float(curve[0][0]) if curve else spent / 100
    left = start / 4
    title = "No better than its initialisation for this compute"
    if "init" in level and level["init"] > level["student"]:
        title = f"{flops(spent)} FLOPs took off {level['init'] - level['student']:.2f} bits per byte"
    axes = panel(theme, title, "training FLOPs of this run (logarithmic)",
                 "bits per byte (lower is better)", size_in=(SIZE_IN[0], 3.1))  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(left / 1.35, spent * 2)
    labels = [(level[model], f"{MODELS[model]} {level[model]:.2f}", theme.models[model])
              for model in REFERENCES if model in level]  # fmt: skip
    for value, _, colour in labels:
        axes.axhline(value, color=colour, linewidth=1.2, linestyle=(0, (5, 3)))
    if curve:
        order = curriculum(run.fits[-1]).split(" (")[0]
        axes.plot(*curve, color=theme.models["student"], linewidth=1.6, alpha=0.35)
        axes.annotate(f"train answers{f' ({order})' if order else ''}", (0.99, curve[1][0]),
                      (0, 4), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
                      color=theme.models["student"], alpha=0.8, fontsize=8.5)  # fmt: skip
    bold: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9.5, "fontweight": "bold"}
    if "init" in level:
        axes.scatter([left], [level["init"]], s=70, color=theme.models["init"], zorder=4)
        text = f"initialisation {level['init']:.2f}, 0 FLOPs here"
        axes.annotate(text, (left, level["init"]), (10, 0), va="center", color=theme.models["init"], **bold)
    axes.scatter([spent], [level["student"]], s=70, color=theme.models["student"], zorder=5)
    axes.annotate(f"student {level['student']:.2f}", (spent, level["student"]), (0, -10), ha="center", va="top",
                  color=theme.models["student"], **bold)  # fmt: skip
    top = max([*level.values(), *(curve[1] if curve else [])])
    axes.set_ylim(0, top * 1.1)
    for value, text, colour in labels:
        axes.annotate(text, (left, value), (-6, 3), textcoords="offset points", color=colour, fontsize=9)
    axes.minorticks_off()
    # Zero has no place on a logarithmic axis: it stands at the left, behind a break.
    decades = [10.0**k for k in range(int(np.floor(np.log10(start))), int(np.ceil(np.log10(spent))) + 1)]
    shown = [decade for decade in decades if start / 1.5 <= decade <= spent * 2]
    axes.set_xticks([left, *shown], ["0", *(f"$10^{{{round(np.log10(decade))}}}$" for decade in shown)])
    axes.annotate("//", (left * 2, 0), ha="center", va="center", color=theme.muted, annotation_clip=False)
    return axes


def learning_curve(run: Run) -> tuple[Float64[np.ndarray, "points"], Float64[np.ndarray, "points"]] | None:
    """Cumulative training FLOPs and cross-entropy in bits per byte of the run's only fit.

    A fit's FLOPs are spread over its steps by their supervised tokens. Nats per token become bits per byte with the
    student's tokens per byte on the held-out answers: train answers are the same teacher's. None for several fits
    (their data differ), without a cross-entropy, or without items.
    """
    if len(run.fits) != 1:
        return None
    fit = run.fits[0]
    rows = [r for r in fit.metrics if isinstance(r.get("ce_nats"), int | float) and r.get("supervised_tokens")]
    tokens = sum(item.get("tokens", {}).get("student", 0) for item in run.items)
    if len(rows) < 2 or not tokens or not fit.summary.get("flops"):
        return None
    steps = np.array([row["step"] for row in rows], dtype=np.float64)
    work = np.cumsum(np.array([r["supervised_tokens"] for r in rows]) * np.diff(steps, prepend=0.0))
    ce = np.array([row["ce_nats"] for row in rows], dtype=np.float64)
    bits = (smooth(ce) if is_noisy(ce) else ce) / np.log(2) * tokens / sum(item["bytes"] for item in run.items)
    return work / work[-1] * _flops(fit), bits


def _flops(fit: Fit) -> float:
    return float(fit.summary["flops"])
