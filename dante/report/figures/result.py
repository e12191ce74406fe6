"""What was measured: bits per byte, slices, retention, every answer, calibration."""

import numpy as np
from matplotlib.axes import Axes

from dante.look.theme import SIZE_IN, Theme, panel
from dante.report.evaluation import MAIN, details, parts, total
from dante.report.one_run.results import find_pair, scores
from dante.report.read import Json, Run
from dante.report.words import MODELS, distinct, task_name

NETWORKS = ("teacher", "init", "student")
# What a student is between its initialisation and its end, in order; a run without the middle one has no ladder.
LADDER = ("init", "matched", "student")
# A bin of the reliability diagram with fewer tokens than this says nothing.
FEWEST_TOKENS = 20
TALL = (SIZE_IN[0], 3.1)


def bits_per_byte(run: Run, theme: Theme) -> Axes | None:
    """Bits per byte of every model on all held-out answers, with 95 % intervals of the mean (1.96 standard errors)."""
    rows = list(reversed(scores(run)))
    if not rows:
        return None
    title, pair = "Bits per byte of held-out answers", find_pair(run, "heldout", "bits_per_byte", "init")
    if pair and distinct(pair):
        less = "below" if pair["difference"] < 0 else "above"
        title = f"Student: {abs(pair['difference']):.2f} bits per byte {less} its start"
    axes = panel(theme, title, "bits per byte (lower is better)", size_in=TALL)
    for place, row in enumerate(rows):
        colour = theme.models.get(row["model"], theme.muted)
        reach = 1.96 * (row["stderr"] or 0)
        axes.barh(place, row["value"], color=colour, height=0.62, alpha=0.92)
        axes.errorbar(row["value"], place, xerr=reach, color=theme.ink, linewidth=1.4, capsize=3)
        weight = "bold" if row["model"] == "student" else "normal"
        axes.annotate(f"{row['value']:.3f}", (row["value"] + reach, place), (6, 0), textcoords="offset points",
                      va="center", color=theme.ink, fontsize=9.5, fontweight=weight)  # fmt: skip
    axes.set_yticks(range(len(rows)), [str(MODELS.get(row["model"], row["model"])) for row in rows])
    axes.tick_params(axis="y", labelsize=10, labelcolor=theme.ink)
    axes.set_xlim(0, max(row["value"] + 1.96 * (row["stderr"] or 0) for row in rows) * 1.14)
    _only_x_grid(axes, theme)
    return axes


def perplexity_ladder(run: Run, theme: Theme) -> Axes | None:
    """Perplexity of held-out answers after every stage, against the teacher's: geometric mean over their tokens."""
    levels = {model: value for model in ("teacher", *LADDER) if (value := _perplexity(run, model)) is not None}
    if "matched" not in levels or "teacher" not in levels:
        return None
    stages = [model for model in LADDER if model in levels]
    teacher, heights = levels["teacher"], [levels[model] for model in stages]
    title = f"Perplexity after the last stage: {heights[-1] / teacher:.2f} times the teacher's"
    axes = panel(theme, title, "", "perplexity of held-out answers", size_in=TALL)
    axes.plot(range(len(stages)), heights, color=theme.muted, linewidth=1.4, zorder=1)
    for place, (model, height) in enumerate(zip(stages, heights, strict=True)):
        axes.scatter(place, height, s=64, color=theme.models[model], zorder=3)
        axes.annotate(f"{height:.3g}", (place, height), (0, 9), textcoords="offset points", ha="center",
                      color=theme.ink, fontsize=10)  # fmt: skip
    axes.axhline(teacher, color=theme.models["teacher"], linewidth=1.6)
    axes.annotate(f"teacher: {teacher:.3g}", (len(stages) - 0.55, teacher), (0, 5), textcoords="offset points",
                  ha="right", color=theme.models["teacher"], fontsize=9.5)  # fmt: skip
    axes.set_xticks(range(len(stages)), [MODELS[model] for model in stages])
    axes.tick_params(axis="x", labelsize=10, labelcolor=theme.ink)
    axes.set_xlim(-0.45, len(stages) - 0.55)
    span = max(heights) - min(teacher, *heights)
    axes.set_ylim(min(teacher, *heights) - 0.15 * span, max(heights) + 0.25 * span)
    return axes


def _perplexity(run: Run, model: str) -> float | None:
    """2 to the power of the bits per token; None where the items do not say both."""
    items = run.items.get(MAIN, [])
    bits, tokens = total(items, model, "bits_per_byte")[0], total(items, model, "entropy_nats")[1]
    return float(2 ** (bits / tokens)) if tokens else None


def by_slice(run: Run, theme: Theme) -> Axes | None:
    """Per domain and language: how far the student moved from its initialisation towards its teacher."""
    return _dumbbell(run, theme, "heldout", "Better on {better} of {all} domains and languages")


def retention(run: Run, theme: Theme) -> Axes | None:
    """Languages and code that the cache does not hold, before and after training."""
    return _dumbbell(run, theme, "retention", "Texts outside the cache: better on {better} of {all}")


def per_item(run: Run, theme: Theme) -> Axes | None:
    """Every held-out answer before and after training: below the diagonal it became likelier."""
    both = [item for item in run.items.get(MAIN, []) if {"init", "student"} <= item["models"].keys()]
    if len(both) < 2:
        return None
    before, after = (np.array(parts(both, model, "bits_per_byte"), dtype=np.float64) for model in ("init", "student"))
    points = np.stack([before[:, 0] / before[:, 1], after[:, 0] / after[:, 1]], axis=1)
    better = float((points[:, 1] < points[:, 0]).mean())
    title = f"Each held-out answer: {better:.0%} became likelier"
    axes = panel(theme, title, "initialisation (bits per byte)", "student (bits per byte)")
    right, top = 1.06 * points.max(axis=0)
    reach = min(right, top)
    axes.plot([0, reach], [0, reach], color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate("no change", (0.9 * reach, 0.9 * reach), (-8, 0), textcoords="offset points", ha="right",
                  color=theme.muted, fontsize=8.5)  # fmt: skip
    axes.scatter(points[:, 0], points[:, 1], s=12, color=theme.models["student"], alpha=0.6, linewidth=0)
    axes.set_xlim(0, right)
    axes.set_ylim(0, top)
    return axes


def reliability(run: Run, theme: Theme) -> Axes | None:
    """How often the most likely token was right, against how sure the model was of it."""
    calibration: Json = details(run.evaluation, "calibration")
    if not calibration:
        return None
    title, student_calibration = "Calibration of the most likely token", calibration.get("student")
    if student_calibration:
        gap = _overconfidence(student_calibration["bins"])
        way = "surer" if gap > 0 else "less sure"
        title = f"The student is {100 * abs(gap):.1f} points {way} than right"
    axes = panel(theme, title, "confidence in the most likely token", "share of times it was right", size_in=TALL)
    axes.plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate("less sure than right", (0.03, 0.93), color=theme.muted, fontsize=8.5)
    axes.annotate("surer than right", (0.985, 0.34), ha="right", color=theme.muted, fontsize=8.5)
    for place, model in enumerate(m for m in ("init", "teacher", "student") if m in calibration):
        bins = [b for b in calibration[model]["bins"] if b["tokens"] >= FEWEST_TOKENS]
        if not bins:
            continue
        x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
        share = np.array([b["tokens"] for b in bins]) / sum(b["tokens"] for b in bins)
        axes.plot(x, y, color=theme.models[model], linewidth=1.6)
        axes.scatter(x, y, s=8 + 200 * share, color=theme.models[model], linewidth=0, alpha=0.85, zorder=3)
        text = f"{MODELS[model]}: ECE {calibration[model]['ece']:.3f}"
        axes.annotate(text, (0.985, 0.05 + 0.085 * place), ha="right", color=theme.models[model], fontsize=9.5,
                      fontweight="bold")  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    return axes


def _overconfidence(bins: list[Json]) -> float:
    """Mean confidence minus accuracy over all tokens."""
    filled = [b for b in bins if b["tokens"]]
    return sum(b["tokens"] * (b["confidence"] - b["accuracy"]) for b in filled) / sum(b["tokens"] for b in filled)


def _dumbbell(run: Run, theme: Theme, kind: str, title: str) -> Axes | None:
    """Slices of a task from the initialisation to the student, with the teacher where there is one."""
    table: dict[str, dict[str, Json]] = {}
    for row in run.evaluation.get("rows", []):
        if row["metric"] == "bits_per_byte" and row["task"].startswith(f"{kind}/") and row["model"] in NETWORKS:
            table.setdefault(row["task"], {})[row["model"]] = row
    table = {task: row_by_model for task, row_by_model in table.items() if row_by_model.keys() >= {"init", "student"}}
    if not table:
        return None
    single = [task for task in table if "=" in task]
    groups = list(dict.fromkeys(task.split("=")[0] for task in table))
    order = sorted(table, key=lambda t: (groups.index(t.split("=")[0]), "=" in t, table[t]["student"]["value"]))
    order.reverse()
    better = sum(table[task]["student"]["value"] < table[task]["init"]["value"] for task in single)
    text = title.format(better=better, all=len(single))
    axes = panel(
        theme, text, "bits per byte (lower is better)", size_in=(SIZE_IN[0], max(2.8, 1.3 + 0.27 * len(order)))
    )
    # Half a line apart: groups that divide the same texts in different ways.
    last = len(groups) - 1
    places = [place + 0.5 * (last - groups.index(task.split("=")[0])) for place, task in enumerate(order)]
    everything = [row["value"] for row_by_model in table.values() for row in row_by_model.values()]
    for place, task in zip(places, order, strict=True):
        values = {model: row["value"] for model, row in table[task].items()}
        if abs(values["student"] - values["init"]) > 0.04 * (max(everything) - min(everything)):
            arrow = {"arrowstyle": "->", "color": theme.muted, "linewidth": 1.4, "shrinkB": 5}
            axes.annotate("", (values["student"], place), (values["init"], place), zorder=1, arrowprops=arrow)
        for model, value in values.items():
            axes.scatter(value, place, color=theme.models[model], s=38, zorder=3, edgecolor=theme.paper, linewidth=1)
    _name_dots(axes, theme, {model: row["value"] for model, row in table[order[-1]].items()}, places[-1])
    axes.set_yticks(places, [f"{task_name(t)}  ({table[t]['student']['n']})" for t in order])
    axes.tick_params(axis="y", labelsize=9, labelcolor=theme.ink)
    axes.set_ylim(-0.6, places[-1] + 1.9)  # three names above each other
    _only_x_grid(axes, theme)
    return axes


def _name_dots(axes: Axes, theme: Theme, top: dict[str, float], place: float) -> None:
    """Names above the dots of the topmost row; names of near dots stand above each other."""
    low, high = axes.get_xlim()
    last, level = -np.inf, 0
    for model, value in sorted(top.items(), key=lambda item: item[1]):
        level = level + 1 if value - last < 0.2 * (high - low) else 0
        axes.annotate(MODELS[model], (value, place), (0, 9 + 11 * level), textcoords="offset points", ha="center",
                      color=theme.models[model], fontsize=9)  # fmt: skip
        last = value


def _only_x_grid(axes: Axes, theme: Theme) -> None:
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=theme.grid, linewidth=0.8)
