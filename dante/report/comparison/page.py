"""Everything that the page and the Markdown show, as plain values: the templates only lay it out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dante.look.numbers import flops, probability
from dante.report.comparison import cost, recipe, verdict
from dante.report.comparison.cost import PARTS, Cost
from dante.report.comparison.factors import FactorEffect
from dante.report.comparison.judge import Cell, Result
from dante.report.comparison.runs.arms import Arm, differences, short_names
from dante.report.comparison.runs.find import Found, Json
from dante.report.comparison.tables import Group
from dante.report.comparison.tuning import edges
from dante.report.comparison.words import digits, direction, made, signed, span, title, unit
from dante.report.words import MODELS, compact, duration, hours, task_name

Judged = tuple[Group, list[Result]]


def content(
    tables: Sequence[Judged], factors: Sequence[list[FactorEffect]], found: Found, figures: dict[str, list[Json]]
) -> dict[str, Any]:
    """What the templates show.

    Args:
        tables: groups of arms with their results.
        factors: of every table, what its factors change.
        found: where the runs came from.
        figures: section → drawn figures; sections of a table are called `result-1`, `training-1`, `cost-1`.
    """
    groups = [group for group, _ in tables]
    arms = [arm for group in groups for arm in group.arms]
    runs = [run for arm in arms for run in arm.runs.values()]
    budgets = [budget for sweep in found.sweeps if (budget := cost.budget(sweep, runs))]
    return {
        "name": ", ".join(str(sweep["sweep"]) for sweep in found.sweeps) or "comparison",
        "title": _heading(found, arms),
        "counts": f"{len(arms)} arm{_s(arms)}, {len(runs)} run{_s(runs)}",
        "sweep_commands": [sweep["command"] for sweep in found.sweeps if sweep.get("command")],
        "why_tables": verdict.why_tables(groups),
        "tables": [
            _table(group, results, changed, figures) for (group, results), changed in zip(tables, factors, strict=True)
        ],
        "several": len(groups) > 1,
        "budgets": [{"text": budget.sentence, "equal": budget.equal} for budget in budgets],
        "absent": found.absent,
        "tuning": figures.get("tuning", []),
        "tuning_sentences": [text for sweep in found.sweeps for text in tuning_sentences(sweep)],
        "commands": [_commands(arm) for arm in arms],
    }


def tuning_sentences(sweep: Json) -> list[str]:
    """What was tuned, on what, and a warning for every arm whose choice lies at the edge of the grid."""
    tuning = sweep.get("tuning")
    if not tuning:
        return []
    texts = []
    for key, values in tuning["grid"].items():
        searched = (tuning.get("search") or {}).get(key)
        grid = f"a search in {searched}" if searched else ", ".join(map(str, values))
        texts.append(
            f"{key} was chosen from {grid} for every arm alike, by {tuning['metric']} at seed {tuning['seed']}."
        )
        edge = edges(tuning, key)
        if edge:
            arms = ", ".join(f"{arm} ({value})" for arm, value in edge.items())
            texts.append(f"At the edge of the grid: {arms}. The best value may lie beyond it; widen the grid.")
    return texts


def _heading(found_runs: Found, arms: Sequence[Arm]) -> str:
    if found_runs.sweeps:
        return " and ".join(str(sweep["sweep"]).replace("_", " ") for sweep in found_runs.sweeps)
    return " against ".join(arm.name for arm in reversed(arms)) if len(arms) == 2 else f"{len(arms)} arms compared"


def _table(group: Group, results: list[Result], changed: list[FactorEffect], figures: dict[str, list[Json]]) -> Json:
    primary = next((result for result in results if result.primary), None)
    equality = cost.equality(group)
    whole = [r for r in results if "/" not in r.task and not r.primary]
    parts = [r for r in results if "/" in r.task]
    return {
        "number": group.number,
        "equal": [(name, text, name in group.differs) for name, text in group.equal.items()],
        "baseline": group.baseline.name,
        "headline": verdict.headline(results),
        "sentences": _sentences(primary),
        "corrected_for": verdict.corrected_for(primary),
        "design": verdict.design(group, primary),
        "factors": [_factor(factor_effect, primary) for factor_effect in changed] if primary else [],
        "equality": {"text": equality.sentence, "equal": equality.equal},
        "primary": _full(primary, group) if primary else None,
        "arms": [arm.name for arm in group.arms[1:]],
        "short": short_names([arm.name for arm in group.arms]),
        "overview": _by_task(whole),
        "details": [_full(result, group) for result in whole],
        "slices": _by_task(parts),
        "cost": [_cost(arm, group) for arm in group.arms],
        "estimated": any(cost.of_arm(arm).estimated for arm in group.arms),
        "method": verdict.method(results),
        "notes": [note for arm in group.arms for note in arm.notes],
        "figures": {
            name: figures.get(f"{name}-{group.number}", []) for name in ("result", "factors", "training", "cost")
        },
    }


def _sentences(result: Result | None) -> list[tuple[str, str, str]]:
    """Arm, what is said of it, and its verdict; best first."""
    if result is None:
        return []
    sign = -1 if result.how.better == "higher" else 1
    ranked = sorted(result.others, key=lambda cell: (cell.effect is None, sign * cell.mean))
    return [(cell.arm, verdict.sentence(result, cell), cell.verdict) for cell in ranked]


def _full(result: Result, group: Group) -> Json:
    """One metric with all its numbers, arms ranked with the baseline among them."""
    how, places, arms = result.how, digits(result), {arm.name: arm for arm in group.arms}
    sign = -1 if how.better == "higher" else 1
    ranked = sorted(result.cells, key=lambda cell: (bool(cell.why_not), sign * cell.mean))
    return {
        "title": title(result),
        "direction": direction(how),
        "meaning": how.meaning,
        "unit": unit(how),
        "settings": made(result.settings),
        "references": [(MODELS.get(model, model), how.value(v, places)) for model, v in result.references.items()],
        "rows": [_row(result, cell, places, differences(arms[cell.arm], group.baseline)) for cell in ranked],
    }


def _row(result: Result, cell: Cell, places: int, differs: list[str]) -> Json:
    how, effect = result.how, cell.effect
    judged = effect is not None and np.isfinite(effect.difference)
    interval = (
        span(how, effect.low, effect.high, places)
        if effect and effect.low is not None and effect.high is not None
        else "–"
    )
    return {
        "arm": cell.arm,
        "baseline": cell is result.baseline,
        "differs": differs,
        "mean": how.value(cell.mean, places) if cell.values else "–",
        "sd": how.value(cell.sd, places).removesuffix("%") if cell.sd is not None else "",
        "seeds": [how.value(value, places).removesuffix("%") for value in cell.values.values()],
        "difference": signed(how, effect.difference, places) if effect and judged else "–",
        "interval": interval,
        "p": probability(cell.p_corrected),
        "verdict": cell.verdict or ("baseline" if cell is result.baseline else "not judged"),
        "significant": cell.significant,
        "detectable": signed(how, cell.detectable, places)[1:] if cell.detectable else "–",
        "covers": effect.covers if effect else "",
        "notes": [note for note in (cell.why_not, *(effect.notes if effect else ())) if note],
    }


def _factor(factor_effect: FactorEffect, primary: Result) -> Json:
    how, effect, places = primary.how, factor_effect.effect, digits(primary)
    has_interval = effect.low is not None and effect.high is not None
    return {
        "factor": factor_effect.factor,
        "level": factor_effect.level,
        "against": factor_effect.against,
        "pairs": factor_effect.pairs,
        "sentence": verdict.of_factor(factor_effect, how, places),
        "difference": signed(how, effect.difference, places),
        "interval": span(how, effect.low, effect.high, places) if has_interval else "–",  # type: ignore[arg-type]
        "p": probability(factor_effect.p_corrected),
        "verdict": factor_effect.verdict or "not judged",
        "detectable": signed(how, factor_effect.detectable, places)[1:] if factor_effect.detectable else "–",
        "notes": list(effect.notes),
    }


def _by_task(results: Sequence[Result]) -> list[Json]:
    """Differences of all arms, a line per metric, grouped by what was asked."""
    groups: dict[str, list[Json]] = {}
    for result in results:
        name = f"{task_name(result.task)}, {result.how.label}" if "/" in result.task else result.how.label
        places = max(3, min(4, digits(result)))
        cells = {cell.arm: _short(result, cell, places) for cell in result.others}
        line = {"name": name, "better": result.how.better, "cells": cells, "n": result.settings.get("n", ""),
                "baseline": result.how.value(result.baseline.mean, places)}  # fmt: skip
        groups.setdefault(result.asked, []).append(line)
    return [{"heading": heading, "lines": lines} for heading, lines in groups.items()]


def _short(result: Result, cell: Cell, places: int) -> Json:
    if cell.effect is None or not np.isfinite(cell.effect.difference):
        return {"text": "–", "verdict": "", "why": cell.why_not or "nothing to divide by"}
    text = signed(result.how, cell.effect.difference, places)
    return {"text": text, "verdict": cell.verdict if cell.significant else "", "why": ""}


def _cost(arm: Arm, group: Group) -> Json:
    arm_cost = cost.of_arm(arm)
    return {
        "arm": arm.name,
        "baseline": arm is group.baseline,
        "tokens": [_amount(arm_cost, "tokens", part) for part in PARTS],
        "flops": [_amount(arm_cost, "flops", part) for part in PARTS],
        "wall": duration(arm_cost.wall_s) if arm_cost.wall_s is not None else "–",
        "device_hours": hours(arm_cost.device_hours) if arm_cost.device_hours is not None else "–",
        "memory": f"{arm_cost.memory_gib:.1f} GiB" if arm_cost.memory_gib is not None else "–",
    }


def _amount(arm_cost: Cost, kind: str, part: str) -> str:
    value = getattr(arm_cost, kind)[part]
    if value is None:
        return "–"
    return ("≈ " if part in arm_cost.estimated else "") + (compact(value) if kind == "tokens" else flops(value))


def _commands(arm: Arm) -> Json:
    runs = [{"run": run.name, "command": recipe.command(run), "exact": recipe.exact(run)} for run in arm.runs.values()]
    return {"arm": arm.name, "runs": runs}


def _s(many: Sequence[object]) -> str:
    return "" if len(many) == 1 else "s"
