"""What each arm cost, and whether the arms of a table cost the same.

A fit's `summary.json` says what training, the teacher's generation and its scoring took. An older one says only what
training took: then generation is estimated as in a run's report, and scoring is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dante.cost.compute import TOLERANCE
from dante.look.numbers import flops
from dante.report.comparison.runs.arms import Arm
from dante.report.comparison.runs.find import Json
from dante.report.comparison.runs.read import Trained
from dante.report.comparison.tables import Group
from dante.report.one_run import cost
from dante.report.read import Run
from dante.report.words import compact

PARTS = ("training", "generation", "scoring", "total")


@dataclass(frozen=True)
class Cost:
    """One run's, or the mean of an arm's runs. None: not recorded.

    Attributes:
        tokens: by part: training, generation (of the teacher), scoring (by the teacher), total.
        flops: by part.
        wall_s: training.
        device_hours: training.
        memory_gib: highest of training.
        estimated: parts whose numbers are estimates.
    """

    tokens: dict[str, float | None]
    flops: dict[str, float | None]
    wall_s: float | None
    device_hours: float | None
    memory_gib: float | None
    estimated: tuple[str, ...]


@dataclass(frozen=True)
class Equality:
    """Whether a table's arms had equal compute.

    Attributes:
        sentence: what there is to say.
        equal: whether it is good.
    """

    sentence: str
    equal: bool


def of_run(run: Trained) -> Cost:
    """Read from the run's fits."""
    files, summaries = run.files, [fit.summary for fit in run.files.fits]
    if summaries and all("compute" in summary for summary in summaries):
        blocks = [summary["compute"] for summary in summaries]
        tokens = {part: _sum([block.get(part, {}).get("tokens") for block in blocks]) for part in PARTS}
        work = {part: _sum([block.get(part, {}).get("flops") for block in blocks]) for part in PARTS}
        estimated = tuple(dict.fromkeys(part for block in blocks for part in block.get("estimated", [])))
    else:
        tokens, work, estimated = _older(files, summaries)
    busy = [cost.device_hours(files.steps[fit.label], fit.summary) for fit in files.fits]
    memory = [float(summary["peak_mem_gib"]) for summary in summaries if summary.get("peak_mem_gib") is not None]
    wall = _sum([summary.get("wall_s") for summary in summaries])
    return Cost(tokens, work, wall, _sum(busy), max(memory, default=None), estimated)


def of_arm(arm: Arm) -> Cost:
    """Mean over an arm's runs; the highest memory of any."""
    runs = [of_run(run) for run in arm.runs.values()]
    tokens, work = ({part: _mean([getattr(run, kind)[part] for run in runs]) for part in PARTS} for kind in KINDS)
    wall, busy = (_mean([getattr(run, name) for run in runs]) for name in ("wall_s", "device_hours"))
    memory = max((run.memory_gib for run in runs if run.memory_gib is not None), default=None)
    return Cost(tokens, work, wall, busy, memory, tuple(dict.fromkeys(e for run in runs for e in run.estimated)))


def equality(group: Group) -> Equality:
    """Whether all arms of a table used the same compute, by the largest ratio between two of them."""
    costs = [of_arm(arm) for arm in group.arms]
    if len(costs) < 2:
        return Equality("", True)
    spans = []
    for kind, write, unit in (("tokens", compact, "tokens"), ("flops", flops, "FLOPs")):
        part = "total" if all(getattr(arm_cost, kind)["total"] is not None for arm_cost in costs) else "training"
        values = [getattr(arm_cost, kind)[part] for arm_cost in costs]
        known_values = [value for value in values if value is not None]
        if len(known_values) == len(values) and min(known_values) > 0:
            spans.append(
                (
                    max(known_values) / min(known_values) - 1,
                    part,
                    unit,
                    write(min(known_values)),
                    write(max(known_values)),
                )
            )
    if not spans:
        return Equality("What the arms cost is not recorded: nothing says that their compute was equal.", False)
    apart = max(share for share, *_ in spans)
    if apart <= TOLERANCE:
        used = " and ".join(
            f"{low if low == high else f'{low} to {high}'} {'' if part == 'total' else 'training '}{unit}"
            for _, part, unit, low, high in spans
        )
        left_out = [unit for _, part, unit, _, _ in spans if part != "total"]
        what = f"; the teacher's {' and '.join(left_out)} are not recorded" if left_out else ", the teacher's included"
        near = f"within {apart:.1%}" if apart >= 0.0005 else "the same for all arms"
        return Equality(f"Equal compute: {used} a run ({near}){what}.", True)
    used = " and ".join(f"{low} to {high} {unit} ({part}, {share:.0%} apart)" for share, part, unit, low, high in spans)
    return Equality(f"Unequal compute: {used}. A difference in quality may be one in compute.", False)


def budget(sweep: Json, runs: Sequence[Trained]) -> Equality | None:
    """Whether every point of a sweep with a compute budget kept it; None for a sweep without."""
    wanted = sweep.get("compute")
    if not wanted or not wanted.get("amount"):
        return None
    unit, amount = wanted["unit"], float(wanted["amount"])
    text = f"{compact(amount)} tokens" if unit == "tokens" else f"{flops(amount)} FLOPs"
    spent = {run.name: getattr(of_run(run), unit)["total"] for run in runs if run.point.sweep == sweep["sweep"]}
    unknown = [name for name, value in spent.items() if value is None]
    off = {name: value / amount - 1 for name, value in spent.items() if value is not None}
    broken = {name: share for name, share in off.items() if abs(share) > TOLERANCE}
    if unknown:
        return Equality(f"Budget of {text} a point: {len(unknown)} runs do not say what they used.", False)
    if broken:
        listed = ", ".join(f"{name} {share:+.1%}" for name, share in list(broken.items())[:4])
        more = f" and {len(broken) - 4} more" if len(broken) > 4 else ""
        return Equality(f"Budget of {text} a point not kept within {TOLERANCE:.0%} by {listed}{more}.", False)
    largest = max((abs(share) for share in off.values()), default=0.0)
    return Equality(f"Budget of {text} a point, kept by all {len(off)} runs within {largest:.1%}.", True)


KINDS = ("tokens", "flops")


def _older(
    files: Run, summaries: Sequence[Json]
) -> tuple[dict[str, float | None], dict[str, float | None], tuple[str, ...]]:
    """Tokens and FLOPs by part from what older summaries and the cache say; prompts of the teacher are left out."""
    generated = _sum([files.cache.get("counts", {}).get("teacher_tokens")])
    made = cost.generation_flops(files)
    trained, work = (_sum([summary.get(kind) for summary in summaries]) for kind in KINDS)
    tokens = {"training": trained, "generation": generated, "scoring": None, "total": _sum([trained, generated])}
    spent = {"training": work, "generation": made, "scoring": None, "total": _sum([work, made])}
    return tokens, spent, ("generation", "total") if made else ()


def _sum(values: Sequence[int | float | None]) -> float | None:
    """None where a summand is unknown."""
    known_values = [value for value in values if value is not None]
    return float(sum(known_values)) if known_values and len(known_values) == len(values) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known_values = [value for value in values if value is not None]
    return float(np.mean(known_values)) if known_values and len(known_values) == len(values) else None
