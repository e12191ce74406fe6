"""Which figures a comparison has, and what goes into them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from dante.look.theme import Theme
from dante.report.comparison import cost
from dante.report.comparison.factors import FactorEffect
from dante.report.comparison.judge import CONFIDENCE, Result
from dante.report.comparison.page import Judged
from dante.report.comparison.runs.arms import Arm, short_names
from dante.report.comparison.runs.find import Found, Json
from dante.report.comparison.tables import Group
from dante.report.comparison.tuning import edges, numbers
from dante.report.figures import arms
from dante.report.figures.arms import Bar, Spot
from dante.report.figures.curves import Points, smooth, thinned
from dante.report.read import Fit

# Curves of different arms are averaged over a tenth of their length, or their noise hides how they differ.
SMOOTHING = 10
CROSS_ENTROPY = "ce_nats"
# What the names of all figures begin with.
STEMS = ("differences", "factors", "pareto", "learning", "tuning")


@dataclass(frozen=True)
class Drawing:
    """One figure: where it stands, how it is drawn, what a reader has to know beside it."""

    section: str
    draw: Callable[[Theme], Axes | None]
    caption: str


def all_figures(tables: Sequence[Judged], factors: Sequence[list[FactorEffect]], found: Found) -> dict[str, Drawing]:
    """File stem → figure."""
    drawings: dict[str, Drawing] = {}
    for (group, results), changed in zip(tables, factors, strict=True):
        number, suffix = group.number, f"-{group.number}" if len(tables) > 1 else ""
        primary = next((result for result in results if result.primary), None)
        if changed:
            drawings[f"factors{suffix}"] = Drawing(f"factors-{number}", partial(_factors, changed), FACTORS)
        if primary is not None:
            drawings[f"differences{suffix}"] = Drawing(f"result-{number}", partial(_forest, group, primary), FOREST)
            drawings[f"pareto{suffix}"] = Drawing(f"result-{number}", partial(_pareto, group, primary), PARETO)
        metric = training_metric(group)
        if metric:
            grey = f" Grey: {group.baseline.name}." if len(group.arms) > 1 else ""
            caption = LEARNING[metric == CROSS_ENTROPY] + grey
            drawings[f"learning{suffix}"] = Drawing(f"training-{number}", partial(_learning, group, metric), caption)
    for place, sweep in enumerate(found.sweeps):
        grid = (sweep.get("tuning") or {}).get("grid", {})
        # One key, of numbers: a score has no one axis where several are tuned.
        for key in grid if len(grid) == 1 and numbers(next(iter(grid.values()))) else ():
            stem = f"tuning{f'-{place + 1}' if len(found.sweeps) > 1 else ''}-{key.replace('.', '-')}"
            drawings[stem] = Drawing("tuning", partial(_tuning, sweep["tuning"], key), TUNING)
    return drawings


FOREST = (
    f"Dots: mean difference over seeds. Lines: {CONFIDENCE:.0%} intervals over seeds and items, uncorrected. Coloured: "
    "holds after correction for all arms."
)
FACTORS = (
    f"Mean difference over all pairs of arms that differ in nothing else, with its {CONFIDENCE:.0%} interval, "
    "uncorrected. Coloured: holds after correction for all effects."
)
PARETO = (
    "Filled, bold and joined: no other arm's mean is at least as good at no more compute. Vertical lines: standard "
    "deviation between seeds (left out where all arms cost the same). Whether arms differ is judged in the result's "
    "table, not here."
)
LEARNING = {
    True: "Plain cross-entropy of the train answers: losses are weighted differently from arm to arm and cannot be "
    "compared. Moving average over a tenth of the run; line: mean over seeds, band: lowest to highest seed. Under a "
    "curriculum the level depends on which answers came when.",
    False: "The loss as each arm defines it: its level cannot be compared between arms with other losses. Moving "
    "average over a tenth of the run; line: mean over seeds, band: lowest to highest seed.",
}
TUNING = (
    "Filled: the chosen value. Where it lies at the edge of the grid it has the colour of a warning: the best value "
    "may lie beyond."
)


def training_metric(group: Group) -> str | None:
    """Plain cross-entropy where every arm logs it, else the loss; None where nothing was logged."""
    for key in (CROSS_ENTROPY, "loss"):
        if all(curves(arm, key) for arm in group.arms):
            return key
    return None


def curves(arm: Arm, key: str) -> list[Points]:
    """One smoothed curve per seed over supervised tokens, of the last training step."""
    fits = [run.files.fits[-1] for run in arm.runs.values() if run.files.fits]
    return [curve for fit in fits if (curve := _curve(fit, key))]


def _curve(fit: Fit, key: str) -> Points | None:
    rows = [row for row in fit.metrics if isinstance(row.get(key), int | float) and row.get("supervised_tokens")]
    rows = [row for row in rows if np.isfinite(row[key])]
    if len(rows) < 2:
        return None
    steps = np.array([row["step"] for row in rows], dtype=np.float64)
    tokens = np.cumsum(np.array([row["supervised_tokens"] for row in rows]) * np.diff(steps, prepend=0.0))
    at, values = thinned((tokens, np.array([row[key] for row in rows], dtype=np.float64)))
    return at, smooth(values, SMOOTHING)


def _forest(group: Group, result: Result, theme: Theme) -> Axes | None:
    sign, short = -1 if result.how.better == "higher" else 1, short_names([arm.name for arm in group.arms])
    bars = [
        Bar(short[cell.arm], effect.difference, effect.low, effect.high, cell.verdict)
        for cell in sorted(result.others, key=lambda cell: sign * cell.mean)
        if (effect := cell.effect) is not None and effect.low is not None and effect.high is not None
    ]
    return arms.forest(
        bars,
        "Difference from the baseline",
        "difference in bits per byte (left: better)",
        short[result.baseline.arm],
        theme,
    )


def _factors(changed: list[FactorEffect], theme: Theme) -> Axes | None:
    bars = [
        Bar(
            f"{factor_effect.factor}: {factor_effect.level} − {factor_effect.against}",
            e.difference,
            e.low,
            e.high,
            factor_effect.verdict,
        )
        for factor_effect in changed
        if (e := factor_effect.effect).low is not None and e.high is not None
    ]
    label = "difference in bits per byte (left: better)"
    return arms.forest(bars, "What each factor changes", label, "no difference", theme)


def _pareto(group: Group, result: Result, theme: Theme) -> Axes | None:
    spots, short = [], short_names([arm.name for arm in group.arms])
    part = "total" if all(cost.of_arm(arm).flops["total"] is not None for arm in group.arms) else "training"
    for arm in group.arms:
        cell = next(candidate for candidate in result.cells if candidate.arm == arm.name)
        spent = cost.of_arm(arm).flops[part]
        if spent and cell.values and not cell.why_not:
            spots.append(Spot(short[arm.name], spent, cell.mean, cell.sd or 0.0, arm is group.baseline))
    x = {"total": "FLOPs of one run, teacher included", "training": "training FLOPs; the teacher's are not recorded"}
    return arms.pareto(spots, "Quality against compute", x[part], "bits per byte (lower is better)", theme)


def _learning(group: Group, key: str, theme: Theme) -> Axes | None:
    short = short_names([arm.name for arm in group.arms])
    curves_by_arm = {short[arm.name]: curves(arm, key) for arm in group.arms}
    name = {CROSS_ENTROPY: "cross-entropy (nats per token)", "loss": "loss"}[key]
    title = "Training cross-entropy" if key == CROSS_ENTROPY else "Training loss"
    base = short[group.baseline.name]
    return arms.learning(curves_by_arm, title, "supervised tokens", name, base, theme)


def _tuning(tuning: Json, key: str, theme: Theme) -> Axes | None:
    chosen = {arm: values[key] for arm, values in tuning.get("chosen", {}).items() if values and key in values}
    edge = edges(tuning, key)
    title = f"{key}: {len(edge)} of {len(chosen)} arms chose the edge of the grid" if edge else f"Tuning of {key}"
    metric = str(tuning.get("metric", "score"))
    return arms.tuning(tuning.get("scores", {}), chosen, set(edge), title, key, metric, theme)
