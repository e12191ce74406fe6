"""What the run cost, the teacher's answers and the evaluation included. What is estimated is marked as an estimate."""

from typing import Any

from dante.cost.compute import forward_flops
from dante.look.numbers import flops
from dante.report.evaluation import MAIN
from dante.report.evaluation import total as total_of
from dante.report.read import Json, Run
from dante.report.words import compact, duration, hours, size

COMPUTE_PARTS = (
    ("training", "training"),
    ("generation", "the teacher's answers drawn, each once"),
    ("scoring", "read by the teacher once more (scoring)"),
    ("total", "together"),
)


def step_table(run: Run) -> list[Json]:
    """Per step: stage, wall time, device-hours, FLOPs, size of what it wrote, fingerprint, all as text.

    A training step's device-hours and FLOPs are its own count; any other step keeps one device busy.
    """
    summaries = {fit.label: fit.summary for fit in run.fits}
    made_here = {run.cache_step.get("label"): generation_flops(run)} if generated_here(run) else {}
    rows = []
    for label, step in run.steps.items():
        summary = summaries.get(label, {})
        wall = step.get("wall_s")
        busy = device_hours(step, summary)
        counted, estimated = summary.get("flops"), made_here.get(label)
        work = flops(counted) if counted else f"≈ {flops(estimated)}" if estimated else "–"
        rows.append({
            "label": label, "stage": step.get("stage", label), "fingerprint": step.get("fingerprint", ""),
            "wall": "–" if wall is None else duration(wall), "device_hours": "–" if busy is None else hours(busy),
            "flops": work, "size": size(sum(file["bytes"] for file in step.get("files", {}).values())),
        })  # fmt: skip
    return rows


def total(run: Run) -> Json:
    """Wall time and device-hours of all steps read, as text; the report itself is not among them."""
    summaries = {fit.label: fit.summary for fit in run.fits}
    busy = [device_hours(step, summaries.get(label, {})) for label, step in run.steps.items()]
    return {
        "wall": duration(sum(step.get("wall_s") or 0 for step in run.steps.values())),
        "device_hours": hours(sum(value or 0 for value in busy)),
    }


def device_hours(step: Json, summary: Json) -> float | None:
    """Devices kept busy × hours: the fit's own count, or the wall time of one device."""
    if "device_hours" in summary:
        return float(summary["device_hours"])
    return step["wall_s"] / 3600 if step.get("wall_s") is not None else None


def unit(run: Run) -> str:
    """`CPU-hours` or `GPU-hours`, by what the fit ran on; `device-hours` where it did not say."""
    kind = next((fit.summary["accelerator"] for fit in run.fits if "accelerator" in fit.summary), None)
    return {None: "device-hours", "cpu": "CPU-hours"}.get(kind, "GPU-hours")


def facts(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """What training, generation and evaluation took: a heading and its rows.

    `Compute` is what methods are compared at: answers count once per distinct record drawn, whoever made them when.
    """
    several = len(run.fits) > 1
    groups = [(f"Training, {f.label}" if several else "Training", _training(f.summary, unit(run))) for f in run.fits]
    groups += [(f"Compute, {f.label}" if several else "Compute", compute_rows(f.summary)) for f in run.fits]
    groups += [("The teacher's answers", _generation(run)), ("Evaluation", _evaluation(run))]
    return [(heading, rows) for heading, rows in groups if rows]


def compute_rows(summary: Json) -> list[tuple[str, str]]:
    """Training, generation and scoring of a fit in FLOPs and tokens, and the budget it was given, if any."""
    compute = summary.get("compute")
    if not compute:
        return []
    rows = []
    for part, label in COMPUTE_PARTS:
        work, about = (
            compute[part],
            "≈ " if part in compute["estimated"] or (part == "total" and compute["estimated"]) else "",
        )
        if part != "scoring" or work["tokens"]:
            amount = "size of the teacher unknown" if work["flops"] is None else f"{flops(work['flops'])} FLOPs"
            rows.append((label, f"{about}{amount}, {work['tokens']:,} tokens"))
    if compute["unit"] is None:
        return [*rows, ("budget", "none: a number of steps or of epochs was set")]
    spent, amount = compute["total"][compute["unit"]], compute["amount"]
    given = f"{flops(amount)} FLOPs" if compute["unit"] == "flops" else f"{amount:,} tokens"
    return [*rows, ("budget", f"{given}, {spent / amount:.1%} of it used")]


def generated_here(run: Run) -> bool:
    """Whether this run's cache step asked the teacher: its settings then name an engine."""
    return "engine" in run.cache_step.get("settings", {}).get("source", {})


def generation_flops(run: Run) -> float | None:
    """Estimate for all kept answers; dropped ones are left out.

    Where a fit says what the answers that it drew cost, the others cost as much per token, prompts included. Otherwise
    2·N·T: N the teacher's parameters, T the answers' tokens alone; None where N is unknown.
    """
    tokens = run.cache.get("counts", {}).get("teacher_tokens")
    drawn = _drawn(run)
    if tokens and drawn:
        return float(drawn["flops"] / drawn["tokens"] * tokens)
    return forward_flops(run.teacher_parameters, tokens) if tokens and run.teacher_parameters else None


def _drawn(run: Run) -> Json | None:
    """Tokens and FLOPs of the answers that the fits drew, each once, if they know them."""
    generations = [(fit.summary.get("compute") or {}).get("generation", {}) for fit in run.fits]
    if not all(part.get("flops") is not None for part in generations):
        return None
    totals = {unit: sum(part.get(unit) or 0 for part in generations) for unit in ("tokens", "flops")}
    return totals if totals["flops"] and totals["tokens"] else None


def evaluation_flops(run: Run) -> float | None:
    """Estimate 2·N·tokens over every network's held-out tokens and greedy answers."""
    parameters = {"teacher": run.teacher_parameters, "init": run.init.get("parameters")}
    parameters["student"] = parameters["init"]
    work = 0.0
    for model, count in parameters.items():
        _, scored = total_of(run.items.get(MAIN, []), model, "top1_accuracy")
        answers = (line["answers"].get(model, {}) for line in run.generations)
        written = sum(answer.get("tokens") or 0 for answer in answers) if model != "teacher" else 0
        work += forward_flops(count or 0, round(scored) + written)
    return work or None


def generation_sentence(run: Run) -> str:
    """Where the teacher's answers came from, and what they cost, here or once elsewhere."""
    counts = run.cache.get("counts", {})
    if not counts.get("teacher_tokens"):  # answers of somebody else's, whose tokens nobody counted
        return ""
    amount = f"{counts['records']:,} answers of {compact(counts['teacher_tokens'])} teacher tokens"
    work = generation_flops(run)
    how = "tokens of prompts and answers kept" if _drawn(run) else "tokens kept"
    estimate = f"about {flops(work)} FLOPs (estimate: 2 × teacher's parameters × {how})" if work else ""
    if generated_here(run):
        wall = run.cache_step.get("wall_s")
        took = f"took {duration(wall)} (measured)" if wall else "were generated in this run"
        return f"The teacher's {amount} {took}" + (f", {estimate}." if estimate else ".")
    once = f"once, elsewhere: {estimate}" if estimate else "once, elsewhere; how much is not recorded"
    return f"The teacher's {amount} cost nothing in this run, because the cache was given. They did cost {once}."


def published_sentence(run: Run, published: Json | None) -> str:
    """The card's training and cache cost beside this run's, without pretending that the two are equals."""
    if not published:
        return ""
    text = f"{published['source']}: {published['gpu_hours']:g} {published['gpu']}-hours for training"
    if published.get("cache_gpu_hours"):
        text += f" and about {published['cache_gpu_hours']:g} for its cache"
    training_hours = sum(fit.summary.get("device_hours", 0) for fit in run.fits)
    if not training_hours:
        return text + "."
    device = next((fit.summary["device_name"] for fit in run.fits if "device_name" in fit.summary), "device")
    return (
        f"{text}. Training here took {hours(training_hours)} hours of {device}: other hardware, and perhaps another "
        "budget."
    )


def _training(summary: Json, hour_unit: str) -> list[tuple[str, str]]:
    rows: list[tuple[str, Any]] = []
    if "wall_s" in summary:
        rows.append(("wall time", duration(summary["wall_s"])))
    for key, label in (("data_wait_share", "waiting for data"), ("checkpoint_share", "writing checkpoints")):
        if key in summary:
            rows.append((f"of it {label}", f"{summary[key]:.1%}"))
    if summary.get("startup_s") is not None:
        rows.append(("before the first step", duration(summary["startup_s"])))
    if "device_hours" in summary:
        devices = f" on {summary['devices']} × {summary['device_name']}" if "device_name" in summary else ""
        rows.append((hour_unit, hours(summary["device_hours"]) + devices))
    for key, label in (("tokens", "tokens"), ("supervised_tokens", "supervised tokens")):
        if key in summary:
            rows.append((label, f"{summary[key]:,}"))
    if "flops" in summary:
        rows.append(("FLOPs", flops(summary["flops"]) + _utilisation(summary)))
    measured = summary.get("measured_peak_tflops")
    if measured:
        rates = ", ".join(f"{rate:.3g} in {precision}" for precision, rate in measured.items())
        rows.append(("TFLOP/s, measured", rates))
    if "tokens_per_s" in summary:
        also = (
            f" ({summary['supervised_tokens_per_s']:,.0f} supervised)" if "supervised_tokens_per_s" in summary else ""
        )
        rows.append(("tokens per second", f"{summary['tokens_per_s']:,.0f}{also}"))
    if "peak_mem_gib" in summary:
        scope = ", earlier stages included" if summary.get("peak_mem_scope") == "process" else ""
        most = " on the fullest device" if summary.get("devices", 1) > 1 else ""
        rows.append(("peak memory", f"{summary['peak_mem_gib']:.1f} GiB{most}{scope}"))
    if summary.get("energy_j") is not None:
        rows.append(("energy", _energy(summary["energy_j"])))
    for key, label in (("skipped_updates", "skipped updates"), ("spikes", "loss spikes")):
        if key in summary:
            rows.append((label, str(summary[key])))
    return rows


def _utilisation(summary: Json) -> str:
    if not summary.get("mfu"):
        return ""
    if not summary.get("peak_tflops"):
        return f" ({summary['mfu']:.0%} of the device's peak)"
    source = {"config": "as configured", "listed": "as listed", "measured": "as measured"}[summary["peak_source"]]
    return f" ({summary['mfu']:.0%} of the device's {summary['peak_tflops']:.3g} TFLOP/s, {source})"


def _energy(joules: float) -> str:
    """`12.3 Wh`, `4.56 kWh`."""
    hours_w = joules / 3600
    return f"{hours_w:.3g} Wh" if hours_w < 1000 else f"{hours_w / 1000:.3g} kWh"


def _generation(run: Run) -> list[tuple[str, str]]:
    counts, work = run.cache.get("counts", {}), generation_flops(run)
    rows = [("tokens kept", f"{counts['teacher_tokens']:,}")] if counts.get("teacher_tokens") else []
    dropped = sum(item.get("dropped", 0) for item in run.cache.get("filters", []))
    if dropped:
        rows.append(("answers dropped", f"{dropped:,}, not in the FLOPs"))
    if work:
        rows.append(("FLOPs, estimate", f"≈ {flops(work)}"))
    if counts:
        wall = run.cache_step.get("wall_s") if generated_here(run) else None
        rows.append(("in this run", f"{duration(wall)} (measured)" if wall else "none: the cache was given"))
    return rows


def _evaluation(run: Run) -> list[tuple[str, str]]:
    steps = [step for step in run.steps.values() if step.get("stage") in ("eval", "score")]
    wall = sum(step.get("wall_s") or 0 for step in steps)
    rows = [("wall time", duration(wall))] if wall else []
    work = evaluation_flops(run)
    if work:
        rows.append(("FLOPs, estimate", f"≈ {flops(work)}"))
    return rows
