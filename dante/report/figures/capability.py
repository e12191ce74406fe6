"""What capability cost in training compute."""

from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes

from dante.look.numbers import flops
from dante.look.theme import SIZE_IN, Theme, panel
from dante.report.evaluation import MAIN, total
from dante.report.figures.curves import is_noisy, smooth
from dante.report.one_run.recipe import curriculum
from dante.report.one_run.results import scores
from dante.report.read import Run
from dante.report.words import MODELS

REFERENCES = ("teacher", "trigram", "unigram")
# Reference lines nearer than this share of the axis have their names side by side.
NEAR = 0.08


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
    axes = panel(theme, _title(level, spent), "training FLOPs of this run (logarithmic)",
                 "bits per byte (lower is better)", size_in=(SIZE_IN[0], 3.1))  # fmt: skip
    left = _logarithmic_with_zero(axes, theme, start, spent)
    axes.set_ylim(0, 1.1 * max([*level.values(), *(curve[1] if curve else [])]))
    _references(axes, theme, {model: level[model] for model in REFERENCES if model in level}, left)
    if curve:
        order = curriculum(run.fits[-1]).split(" (")[0]
        axes.plot(*curve, color=theme.models["student"], linewidth=1.6, alpha=0.35)
        axes.annotate(f"train answers{f' ({order})' if order else ''}", (0.99, curve[1][0]), (0, 4), ha="right",
                      xycoords=("axes fraction", "data"), textcoords="offset points", color=theme.models["student"],
                      alpha=0.8, fontsize=8.5)  # fmt: skip
    bold: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9.5, "fontweight": "bold"}
    if "init" in level:
        axes.scatter([left], [level["init"]], s=70, color=theme.models["init"], zorder=4)
        text = f"initialisation {level['init']:.2f}"
        axes.annotate(text, (left, level["init"]), (10, 0), va="center", color=theme.models["init"], **bold)
    axes.scatter([spent], [level["student"]], s=70, color=theme.models["student"], zorder=5)
    axes.annotate(f"student {level['student']:.2f}", (spent, level["student"]), (0, -10), ha="center", va="top",
                  color=theme.models["student"], **bold)  # fmt: skip
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
    items = run.items.get(MAIN, [])
    _, tokens = total(items, "student", "top1_accuracy")
    if len(rows) < 2 or not tokens or not fit.summary.get("flops"):
        return None
    steps = np.array([row["step"] for row in rows], dtype=np.float64)
    work = np.cumsum(np.array([r["supervised_tokens"] for r in rows]) * np.diff(steps, prepend=0.0))
    ce = np.array([row["ce_nats"] for row in rows], dtype=np.float64)
    bits = (smooth(ce) if is_noisy(ce) else ce) / np.log(2) * tokens / total(items, "student", "bits_per_byte")[1]
    return work / work[-1] * float(fit.summary["flops"]), bits


def _title(level: dict[str, float], spent: float) -> str:
    if "init" not in level:
        return f"{flops(spent)} FLOPs led to {level['student']:.2f} bits per byte"
    gained = level["init"] - level["student"]
    return f"{flops(spent)} FLOPs {'took off' if gained > 0 else 'added'} {abs(gained):.2f} bits per byte"


def _logarithmic_with_zero(axes: Axes, theme: Theme, start: float, end: float) -> float:
    """Decades on the x axis and, behind a break, zero, which has no place on it; returns where zero stands."""
    left = start / 4
    axes.set_xscale("log")
    axes.set_xlim(left / 1.35, end * 2)
    axes.minorticks_off()
    powers = range(int(np.floor(np.log10(start))), int(np.ceil(np.log10(end))) + 1)
    shown = [power for power in powers if start / 1.5 <= 10.0**power <= end * 2]
    axes.set_xticks([left, *(10.0**power for power in shown)], ["0", *(f"$10^{{{power}}}$" for power in shown)])
    axes.annotate("//", (left * 2, 0), xycoords=("data", "axes fraction"), ha="center", va="center", color=theme.muted,
                  annotation_clip=False)  # fmt: skip
    return left


def _references(axes: Axes, theme: Theme, level: dict[str, float], left: float) -> None:
    """A dashed line per model that did not train here, with its name; near lines' names stand side by side."""
    last, along = -np.inf, 0
    for model, value in sorted(level.items(), key=lambda item: item[1]):
        axes.axhline(value, color=theme.models[model], linewidth=1.2, linestyle=(0, (5, 3)))
        along = along + 90 if value - last < NEAR * axes.get_ylim()[1] else -6
        axes.annotate(f"{MODELS[model]} {value:.2f}", (left, value), (along, 3), textcoords="offset points",
                      color=theme.models[model], fontsize=9)  # fmt: skip
        last = value
