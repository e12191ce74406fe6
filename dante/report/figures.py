"""The report's figures. Each takes what was read and a theme and returns axes, or None where there is nothing to draw.

What is drawn is discovered from the data: losses from the keys `loss/<name>`, their schedules from `weight/<name>`,
a loss's own measurements from `<name>/<metric>`. A new loss needs no line here.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dante.report.read import Json, Run
from dante.report.theme import Theme, panel

# How keys of metrics.jsonl read on an axis; a key that is not here is shown as it is, with its unit from its suffix.
AXIS = {
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "ce_nats": "cross-entropy (nats per token)",
    "skipped_updates": "skipped updates",
    "tokens_per_s": "tokens per second",
    "peak_mem_gib": "peak memory (GiB)",
    "mfu": "model FLOPs utilisation",
    "supervised_tokens": "supervised tokens per step",
}
NOT_MEASUREMENTS = ("loss", "weight")
Points = tuple[Float64[np.ndarray, "points"], Float64[np.ndarray, "points"]]
# A figure is 900 pixels wide: more points than this cannot be seen, and averaging them costs their square.
MOST_POINTS = 2000
SECTIONS = ("result", "training", "teacher", "machine")
MACHINE = ("tokens_per_s", "peak_mem_gib", "mfu", "supervised_tokens", "skipped_updates")


def series(metrics: Sequence[Json], key: str) -> Points:
    """Steps and values of one key, without the lines that do not have it or where it is not finite."""
    pairs = [(row["step"], row[key]) for row in metrics if isinstance(row.get(key), int | float)]
    points = np.array([pair for pair in pairs if np.isfinite(pair[1])], dtype=np.float64).reshape(-1, 2)
    return thinned((points[:, 0], points[:, 1]))


def names(metrics: Sequence[Json], prefix: str) -> list[str]:
    """`<name>` of all keys `<prefix>/<name>`, in order of appearance."""
    return list(dict.fromkeys(key.split("/", 1)[1] for row in metrics for key in row if key.startswith(f"{prefix}/")))


def smooth(values: Float64[np.ndarray, "points"]) -> Float64[np.ndarray, "points"]:
    """Gaussian moving average as wide as a fiftieth of the curve, centred: it lags behind nothing."""
    place = np.arange(len(values))
    weights = np.exp(-0.5 * np.square((place[:, None] - place[None, :]) / max(1.0, len(values) / 50)))
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


def curve(metrics: Sequence[Json], theme: Theme, key: str, title: str, y: str) -> Axes | None:
    """One metric over optimizer steps: what was logged, faint, and its moving average."""
    steps, values = series(metrics, key)
    if len(values) < 2:
        return None
    axes = panel(theme, title, "optimizer step", y)
    colour = theme.cycle[0]
    shown = _draw(axes, steps, values, colour)
    if is_noisy(values):  # one spike must not flatten everything else
        low, high = np.quantile(values, [0.0, 0.995])
        axes.set_ylim(low - 0.06 * (high - low), max(high, shown.max()) + 0.08 * (high - low))
    _number_axes(axes, theme)
    _label_end(axes, theme, [(float(steps[-1]), float(shown[-1]), f"{shown[-1]:.3g}", colour)])
    return axes


def lines(metrics: Sequence[Json], theme: Theme, keys: dict[str, str], title: str, y: str) -> Axes | None:
    """Several metrics on the same axes, each labelled at its end: no legend to look up."""
    drawn = {key: series(metrics, key) for key in keys}
    drawn = {key: xy for key, xy in drawn.items() if len(xy[0]) >= 2}
    if not drawn:
        return None
    axes = panel(theme, title, "optimizer step", y)
    labels = []
    for (key, (steps, values)), colour in zip(drawn.items(), theme.cycle, strict=False):
        shown = _draw(axes, steps, values, colour)
        labels.append((float(steps[-1]), float(shown[-1]), keys[key], colour))
    positive = np.concatenate([values for _, values in drawn.values()])
    if positive.min() > 0 and positive.max() / positive.min() > 300:
        axes.set_yscale("log")  # otherwise the smaller ones lie on the axis
        axes.minorticks_off()
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    else:
        _number_axes(axes, theme)
    _label_end(axes, theme, labels)
    return axes


def measurements(metrics: Sequence[Json]) -> dict[str, tuple[str, str]]:
    """Every other number that was logged: key → (title, axis). Losses and their weights have their own figures."""
    keys = list(dict.fromkeys(key for row in metrics for key, value in row.items() if isinstance(value, int | float)))
    found = {}
    for key in keys:
        group, _, metric = key.partition("/")
        if key in ("step", "epoch", "loss") or (metric and group in NOT_MEASUREMENTS):
            continue
        readable = AXIS.get(key) or AXIS.get(group)
        title = readable.split(" (")[0].capitalize() if readable else key.replace("/", ": ").replace("_", " ")
        found[key] = (title if not (readable and metric) else f"{title}: {metric.replace('_', ' ')}", readable or key)
    return found


def bits_per_byte(run: Run, theme: Theme) -> Axes | None:
    """Bits per byte of every model on all held-out answers, with 95 % intervals of the mean (1.96 standard errors)."""
    rows = [r for r in run.evaluation.get("rows", []) if r["metric"] == "bits_per_byte" and r["task"] == "heldout"]
    if not rows:
        return None
    rows.sort(key=lambda row: row["value"], reverse=True)
    axes = panel(theme, "Bits per byte of held-out answers", "bits per byte (lower is better; whiskers: 95 % interval)")
    for place, row in enumerate(rows):
        colour = theme.models.get(row["model"], theme.muted)
        reach = 1.96 * (row["stderr"] or 0)
        axes.barh(place, row["value"], color=colour, height=0.62, alpha=0.92)
        axes.errorbar(row["value"], place, xerr=reach, color=theme.ink, linewidth=1.4, capsize=3)
        weight = "bold" if row["model"] == "student" else "normal"
        axes.annotate(f"{row['value']:.3f}", (row["value"] + reach, place), (6, 0), textcoords="offset points",
                      va="center", color=theme.ink, fontsize=9.5, fontweight=weight)  # fmt: skip
    axes.set_yticks(range(len(rows)), [row["model"] for row in rows], fontsize=10, color=theme.ink)
    axes.set_xlim(0, max(row["value"] + 1.96 * (row["stderr"] or 0) for row in rows) * 1.14)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=theme.grid, linewidth=0.8)
    return axes


def by_slice(run: Run, theme: Theme) -> Axes | None:
    """Per domain and language: how far the student moved from its initialisation towards its teacher."""
    rows = [r for r in run.evaluation.get("rows", []) if r["metric"] == "bits_per_byte" and "/" in r["task"]]
    wanted = ("teacher", "init", "student")
    table: dict[str, dict[str, Json]] = {}
    for row in rows:
        if row["model"] in wanted:
            table.setdefault(row["task"].split("/", 1)[1], {})[row["model"]] = row
    if not table:
        return None
    order = sorted(table, key=lambda name: (name.split("=")[0], -table[name]["student"]["value"]), reverse=True)
    height = max(3.3, 1.35 + 0.34 * len(order))
    axes = panel(theme, "By domain and language", "bits per byte", size_in=(5.4, height))
    for place, name in enumerate(order):
        values = {model: row["value"] for model, row in table[name].items()}
        axes.plot([values["init"], values["student"]], [place, place], color=theme.muted, linewidth=1.6, zorder=1)
        for model, value in values.items():
            axes.scatter(value, place, color=theme.models[model], s=48, zorder=3, edgecolor=theme.paper, linewidth=1)
    top = {model: row["value"] for model, row in table[order[-1]].items()}
    width = max(row["value"] for models in table.values() for row in models.values())
    last, raised = -np.inf, False
    for model, value in sorted(top.items(), key=lambda item: item[1]):
        raised = value - last < 0.1 * width and not raised  # names of near points stand above each other
        axes.annotate(model, (value, len(order) - 1), (0, 20 if raised else 9), textcoords="offset points", ha="center",
                      color=theme.models[model], fontsize=9)  # fmt: skip
        last = value
    shown = [f"{name.split('=', 1)[1]}  ({table[name]['student']['n']})" for name in order]
    axes.set_yticks(range(len(order)), shown, color=theme.ink, fontsize=9)
    axes.set_ylim(-0.6, len(order) - 0.1)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=theme.grid, linewidth=0.8)
    return axes


def per_item(run: Run, theme: Theme) -> Axes | None:
    """Every held-out answer before and after training: below the diagonal it became likelier."""
    points = np.array([[i["bits"]["init"] / i["bytes"], i["bits"]["student"] / i["bytes"]] for i in run.items
                       if {"init", "student"} <= i["bits"].keys()], dtype=np.float64)  # fmt: skip
    if len(points) < 2:
        return None
    better = float((points[:, 1] < points[:, 0]).mean())
    title = f"Each held-out answer: {better:.0%} became likelier"
    axes = panel(theme, title, "initialisation (bits per byte)", "student (bits per byte)")
    low, high = 0.9 * points.min(), 1.06 * np.quantile(points, 0.995)
    axes.plot([low, high], [low, high], color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
    middle = low + 0.93 * (high - low)
    axes.annotate("no change", (middle, middle), (-10, 2), textcoords="offset points", ha="right", va="bottom",
                  color=theme.muted, fontsize=8.5)  # fmt: skip
    axes.scatter(points[:, 0], points[:, 1], s=16, color=theme.models["student"], alpha=0.6, linewidth=0)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    return axes


def entropies(run: Run, theme: Theme) -> Axes | None:
    """How sure the teacher was: distribution of output entropy over the cache."""
    if len(run.entropies) < 2:
        return None
    values = np.array(run.entropies)
    axes = panel(theme, "How sure the teacher was", "output entropy H of a record (nats per token)", "records")
    axes.hist(values, bins=_bins(values).tolist(), color=theme.models["teacher"], alpha=0.85, rwidth=0.94)
    median = float(np.median(values))
    axes.axvline(median, color=theme.ink, linewidth=1.2)
    axes.annotate(f"median {median:.2f}", (median, 1), (6, -10), xycoords=("data", "axes fraction"),
                  textcoords="offset points", color=theme.ink, fontsize=9)  # fmt: skip
    return axes


def confidence_weights(run: Run, theme: Theme) -> Axes | None:
    """Distribution over the cache of w(H) = floor + (1 - floor) / (1 + exp(slope (H - midpoint))).

    Drawn for whichever loss of the last fit is set up with these three numbers (DANTE-Mosaic-3.5B card [C]).
    """
    losses = run.fits[-1].settings.get("losses", {}) if run.fits else {}
    logistic = [node for node in losses.values() if {"floor", "slope", "midpoint"} <= node.keys()]
    if not logistic or len(run.entropies) < 2:
        return None
    node, entropy = logistic[0], np.array(run.entropies)
    w = node["floor"] + (1 - node["floor"]) / (1 + np.exp(node["slope"] * (entropy - node["midpoint"])))
    title = f"Confidence weight w(H): {w.min():.2f} to {w.max():.2f}"
    axes = panel(theme, title, "weight of a record in the loss", "records")
    # Bars as wide on every cache: one whose records all weigh the same must look like it.
    axes.hist(w, bins=np.linspace(node["floor"], 1.0, 36).tolist(), color=theme.cycle[3], alpha=0.85, rwidth=0.94)
    axes.set_xlim(node["floor"], 1.0)
    axes.axvline(w.mean(), color=theme.ink, linewidth=1.2)
    left = w.mean() > (1 + node["floor"]) / 2
    axes.annotate(f"mean {w.mean():.3f}", (w.mean(), 1), (-6 if left else 6, -10), xycoords=("data", "axes fraction"),
                  ha="right" if left else "left", textcoords="offset points", color=theme.ink, fontsize=9)  # fmt: skip
    return axes


def all_figures(run: Run) -> dict[str, tuple[str, Callable[[Theme], Axes | None]]]:
    """File stem → (section, figure), in the order of the report."""
    figures: dict[str, tuple[str, Callable[[Theme], Axes | None]]] = {
        "bits_per_byte": ("result", partial(bits_per_byte, run)),
        "by_slice": ("result", partial(by_slice, run)),
        "per_item": ("result", partial(per_item, run)),
    }
    for fit in run.fits:
        only = len(run.fits) == 1
        stem, suffix = ("", "") if only else (f"{_slug(fit.label)}-", f" ({fit.label})")
        draw = partial(curve, fit.metrics)
        total = partial(draw, key="loss", title=f"Training loss{suffix}", y="total loss (nats)")
        figures[f"{stem}loss"] = ("training", total)
        for name in names(fit.metrics, "loss"):
            one = partial(draw, key=f"loss/{name}", title=f"Loss: {name}{suffix}", y=f"loss/{name}")
            figures[f"{stem}loss-{_slug(name)}"] = ("training", one)
        weights = {f"weight/{name}": name for name in names(fit.metrics, "weight")}
        schedules = partial(lines, fit.metrics, keys=weights, title=f"Loss weights{suffix}", y="weight λ(t)")
        figures[f"{stem}schedules"] = ("training", schedules)
        for key, (heading, y) in measurements(fit.metrics).items():
            one = partial(draw, key=key, title=f"{heading}{suffix}", y=y)
            figures[f"{stem}{_slug(key)}"] = ("machine" if key in MACHINE else "training", one)
    figures["entropies"] = ("teacher", partial(entropies, run))
    figures["confidence_weights"] = ("teacher", partial(confidence_weights, run))
    return figures


def _bins(values: Float64[np.ndarray, "values"]) -> Float64[np.ndarray, "edges"]:
    """Freedman-Diaconis where it gives a readable number of bars, between 8 and 40 otherwise."""
    edges = np.histogram_bin_edges(values, bins="fd")
    return np.histogram_bin_edges(values, bins=int(np.clip(len(edges) - 1, 8, 40)))


def _draw(axes: Axes, steps: Any, values: Any, colour: str) -> Float64[np.ndarray, "points"]:
    """A curve; a noisy one faint, below its moving average. Returns what was drawn boldly."""
    if not is_noisy(values):
        axes.plot(steps, values, color=colour, linewidth=2)
        return values
    axes.plot(steps, values, color=colour, linewidth=0.9, alpha=0.3)
    average = smooth(values)
    axes.plot(steps, average, color=colour, linewidth=2)
    return average


def _number_axes(axes: Axes, theme: Theme) -> None:
    """Whole steps; a power of ten above the axis instead of rows of zeros."""
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 5), useMathText=True)
    axes.yaxis.get_offset_text().set(color=theme.muted, fontsize=8.5)


def _label_end(axes: Axes, theme: Theme, labels: list[tuple[float, float, str, str]]) -> None:
    """Names at the right end of their lines, pushed apart where they would overlap."""
    axes.margins(x=0.02)
    transform = axes.transData
    placed: list[float] = []
    for x, y, text, colour in sorted(labels, key=lambda label: label[1]):
        height = transform.transform((x, y))[1]
        target = height
        if placed and target - placed[-1] < 22:
            target = placed[-1] + 22
        placed.append(target)
        offset = (target - height) * 72 / axes.figure.dpi
        axes.annotate(text, (x, y), (6, offset), textcoords="offset points", va="center", color=colour, fontsize=9,
                      fontweight="bold", annotation_clip=False)  # fmt: skip


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-") or "x"
