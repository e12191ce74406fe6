"""The comparison as data: a long CSV, one line per arm and metric, and JSON with everything, per seed."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dante.report.comparison import cost, recipe
from dante.report.comparison.factors import FactorEffect
from dante.report.comparison.judge import CONFIDENCE, LEVEL, POWER, PRIMARY, RESAMPLES, Cell, Result
from dante.report.comparison.runs.arms import differences
from dante.report.comparison.runs.find import Found, Json
from dante.report.comparison.tables import Group

COLUMNS = ("table", "task", "metric", "arm", "baseline", "seed_values", "mean", "sd", "difference", "low", "high", "p",
           "p_corrected", "correction", "significant", "verdict", "bootstrap_low", "bootstrap_high", "mde", "n_items",
           "n_seeds", "covers", "note")  # fmt: skip


def csv_text(tables: Sequence[tuple[Group, list[Result]]], factors: Sequence[list[FactorEffect]]) -> str:
    """One line per table, metric and arm, then one per effect of a factor; empty where there is nothing to say."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for (group, results), changed in zip(tables, factors, strict=True):
        lines = [
            {"table": group.number, "task": result.task, "metric": result.metric} | _line(result, cell)
            for result in results
            for cell in result.cells
        ]
        for factor_effect in changed:
            place = {"table": group.number, "task": PRIMARY[0], "metric": PRIMARY[1]}
            lines.append(
                place
                | {"arm": f"{factor_effect.factor}: {factor_effect.level}", "baseline": factor_effect.against}
                | _effect(factor_effect)
            )
        for line in lines:
            writer.writerow({key: _text(line.get(key)) for key in COLUMNS})
    return stream.getvalue()


def json_text(tables: Sequence[tuple[Group, list[Result]]], factors: Sequence[list[FactorEffect]], found: Found) -> str:
    """Everything: settings of the judgement, tables, arms with their runs, results per seed, costs, absent points."""
    content = {
        "confidence": CONFIDENCE,
        "level": LEVEL,
        "power": POWER,
        "bootstrap_resamples": RESAMPLES,
        "tables": [_table(*table, changed) for table, changed in zip(tables, factors, strict=True)],
        "absent": [asdict(absent_run) for absent_run in found.absent],
        "sweeps": [{k: s.get(k) for k in ("sweep", "command", "baseline", "compute", "tuning")} for s in found.sweeps],
    }
    return json.dumps(_finite(content), indent=1, ensure_ascii=False) + "\n"


def _table(group: Group, results: list[Result], changed: list[FactorEffect]) -> Json:
    equality = cost.equality(group)
    return {
        "table": group.number,
        "equal": group.equal,
        "baseline": group.baseline.name,
        "equal_compute": {"equal": equality.equal, "sentence": equality.sentence},
        "arms": {
            arm.name: {
                "differs_from_baseline": differences(arm, group.baseline),
                "runs": {
                    str(seed): {"run": run.name, "command": recipe.command(run), "cost": asdict(cost.of_run(run))}
                    for seed, run in arm.runs.items()
                },
                "cost": asdict(cost.of_arm(arm)),
                "notes": list(arm.notes),
            }
            for arm in group.arms
        },
        "results": [
            {
                "task": result.task,
                "metric": result.metric,
                "primary": result.primary,
                "better": result.how.better,
                "settings": result.settings,
                "references": result.references,
                "arms": [_line(result, cell) for cell in result.cells],
            }
            for result in results
        ],
        "factors": [
            {
                "factor": factor_effect.factor,
                "level": factor_effect.level,
                "against": factor_effect.against,
                "pairs": factor_effect.pairs,
            }
            | _effect(factor_effect)
            for factor_effect in changed
        ],
    }


def _effect(factor_effect: FactorEffect) -> Json:
    """What is known of a factor's effect."""
    effect = factor_effect.effect
    return {
        "difference": effect.difference,
        "low": effect.low,
        "high": effect.high,
        "stderr": effect.stderr,
        "df": effect.df,
        "p": effect.p,
        "p_corrected": factor_effect.p_corrected,
        "correction": "holm" if factor_effect.p_corrected is not None else None,
        "significant": factor_effect.p_corrected is not None and factor_effect.p_corrected < LEVEL,
        "verdict": factor_effect.verdict or None,
        "mde": factor_effect.detectable,
        "n_items": effect.items,
        "n_seeds": len(effect.seeds_a),
        "covers": effect.covers,
        "note": "; ".join([f"mean over {factor_effect.pairs} pairs of arms", *effect.notes]),
    }


def _line(result: Result, cell: Cell) -> Json:
    effect = cell.effect
    notes = [cell.why_not, *(effect.notes if effect else ())]
    return {
        "arm": cell.arm,
        "baseline": result.baseline.arm,
        "seed_values": {str(seed): value for seed, value in cell.values.items()},
        "mean": cell.mean,
        "sd": cell.sd,
        "difference": effect.difference if effect else None,
        "low": effect.low if effect else None,
        "high": effect.high if effect else None,
        "stderr": effect.stderr if effect else None,
        "df": effect.df if effect else None,
        "p": effect.p if effect else None,
        "p_corrected": cell.p_corrected,
        "correction": ("holm" if result.primary else "benjamini-hochberg") if cell.p_corrected is not None else None,
        "significant": cell.significant if effect else None,
        "verdict": cell.verdict or None,
        "bootstrap_low": cell.bootstrap[0] if cell.bootstrap else None,
        "bootstrap_high": cell.bootstrap[1] if cell.bootstrap else None,
        "mde": cell.detectable,
        "n_items": effect.items if effect else cell.items,
        "n_seeds": len(effect.seeds_a) if effect else len(cell.values),
        "covers": effect.covers if effect else None,
        "note": "; ".join(note for note in notes if note) or None,
    }


def _text(value: Any) -> Any:
    """A cell of the CSV: numbers in full, seeds as `1=0.786;2=0.790`."""
    if isinstance(value, dict):
        return ";".join(f"{key}={number!r}" for key, number in value.items())
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _finite(node: Any) -> Any:
    """The same with null for what is not a number: JSON has no NaN."""
    if isinstance(node, dict):
        return {key: _finite(child) for key, child in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(child) for child in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
