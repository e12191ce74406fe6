"""What a plan shows: the steps, and what its fits will cost."""

import re
from typing import Any

from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from dante import console
from dante.cost.compute import Compute, Unit
from dante.cost.estimate import Estimate, FitEstimate
from dante.cost.expected_rate import ExpectedRate
from dante.run.config.schema import ComputeBudget
from dante.run.step import PlannedStep
from dante.system.files import GIB

_UNITS = {"tokens": "tokens", "flops": "FLOPs", "epochs": "epochs"}


def plan(cfg: dict[str, Any], steps: list[PlannedStep], cost: Estimate) -> None:
    """Print what will run, where it will lie, what is already there, and what its fits will cost."""
    screen = console.screen()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("step", "stage", "fingerprint", "state"):
        table.add_column(column)
    for step in steps:
        state = (
            "[green]complete[/]"
            if step.complete
            else "[yellow]to be continued[/]"
            if step.partial.exists()
            else "to do"
        )
        table.add_row(step.label, step.stage, step.fingerprint, state)
    screen.print(table)
    screen.print()
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim")
    facts.add_column()
    for name, value in _cost_rows(cfg, cost):
        facts.add_row(name, value)
    screen.print(facts)
    if cost.fp32_hours is not None:
        screen.print(
            f"[yellow]this machine has no bf16 instructions: about {_duration(cost.hours)} for the fit in bf16, "
            f"{_duration(cost.fp32_hours)} in fp32[/] ({_instead(cfg)})"
        )
    if cost.notes:
        text = "\n".join(f"[dim]{number}.[/] {escape(note)}" for number, note in enumerate(cost.notes, start=1))
        screen.print(Panel(text, title="what the card says that cannot be meant literally", title_align="left"))
    screen.print()


def _cost_rows(cfg: dict[str, Any], cost: Estimate) -> list[tuple[str, str]]:
    """What is true of the whole run, with its fits in between: one section each, where there are several."""
    trainer = cfg["trainer"]
    several = len(cost.fits) > 1
    rows = [
        ("teacher → student", f"{cfg['teacher']['name']} → {cfg['student']['name']}"),
        ("parameters", _counted(cost.parameters)),
        *([("… padded", _counted(cost.padded_parameters))] if cost.padded_parameters else []),
        ("held out", cost.held_out),
    ]
    for fit in cost.fits:
        rows += ([("", ""), (f"[bold]{fit.label}[/]", "")] if several else []) + _fit_rows(fit, trainer)
    if several:
        rows += [("", ""), ("[bold]all fits[/]", ", ".join(fit.label for fit in cost.fits))]
    rows += [
        *[("precision" if index == 0 else "", line) for index, line in enumerate(_reasons(cfg["decided"]))],
        ("FLOPs, estimate", _split(cost.compute, "flops")),
        ("tokens, estimate", _split(cost.compute, "tokens")),
        ("time", _time(cost)),
    ]
    if cfg["published"]:
        published = cfg["published"]
        rows.append(
            (
                "published",
                f"{published['gpu_hours']:g} {published['gpu']}-hours for the fit, ≈ {published['cache_gpu_hours']:g} "
                f"for the cache ({published['source']})",
            )
        )
    return rows


def _counted(parameters: int) -> str:
    return f"{parameters:,} ({parameters / 1e9:.3f} B)"


def _fit_rows(cost: FitEstimate, trainer: dict[str, Any]) -> list[tuple[str, str]]:
    fit, budget = cost.settings, cost.settings.compute
    source = "cache counted" if cost.counted else "cache as expected in conf/cache"
    epochs = f", {cost.epochs:.1f} epochs of {cost.records:,} records" if cost.epochs and cost.records else ""
    about = "≈ " if budget else ""
    memory = cost.memory.total / GIB
    enough = "" if memory <= trainer["memory_gib"] else "  [red]more than the device has[/]"
    return [
        ("losses", ", ".join(cost.losses)),
        *(
            [("budget", budget_words(budget) + (", teacher included" if budget.counts_compute else ""))]
            if budget
            else []
        ),
        ("steps", f"{about}{cost.steps:,} × {fit.batch.size:,} {fit.batch.unit}{epochs}"),
        (
            "tokens",
            f"{cost.tokens:.3g}, {cost.tokens_per_step:,.0f} per step, "
            f"{cost.supervised_tokens:.3g} supervised ({source})",
        ),
        ("devices", f"{cost.devices} × {trainer['device_name']}, {trainer['strategy']}, {fit.precision}"),
        (
            "memory per device",
            f"≈ {memory:.1f} GiB of {trainer['memory_gib']:g} ({cost.memory.state / GIB:.1f} weights, gradients, Adam; "
            f"{memory - (cost.memory.state + cost.memory.teacher) / GIB:.1f} activations and the rest"
            f"{_beside(cost, trainer)}){enough}",
        ),
    ]


def _beside(cost: FitEstimate, trainer: dict[str, Any]) -> str:
    """What a live teacher's weights take."""
    if not cost.memory.teacher:
        return ""
    spread = trainer["strategy"] == "fsdp2" and trainer["teacher_weights"] == "sharded"
    how = f"on {trainer['teacher_device']}, its head here" if trainer["teacher_device"] else "whole"
    return f"; {cost.memory.teacher / GIB:.1f} the live teacher, {'sharded' if spread else how}"


def _time(cost: Estimate) -> str:
    """Hours of all fits, and the rate that they follow from."""
    rate = cost.fits[0].rate
    what = "the fit" if len(cost.fits) == 1 else f"the {len(cost.fits)} fits"
    return (
        f"≈ {_duration(cost.hours)} for {what} = {cost.device_hours:.2g} device-hours, at {rate.mfu:.0%} of "
        f"{rate.peak_tflops:.3g} TFLOP/s per device ({_source(rate)})"
    )


def _reasons(decided: dict[str, str]) -> list[str]:
    """What `auto` became, each reason once: `fp32: this CPU … (trainer, fit, eval)`."""
    keys: dict[str, list[str]] = {}
    for key, reason in decided.items():
        keys.setdefault(reason, []).append(key.rpartition(".")[0])
    return [f"{escape(reason)} ({', '.join(where)})" for reason, where in keys.items()]


def _instead(cfg: dict[str, Any]) -> str:
    """What to type for a fit that is not emulated."""
    advice = "trainer.precision=auto chooses it here"
    return advice if cfg["fidelity"]["master_weights"] else f"fidelity=sound keeps fp32 weights, and {advice}"


def _source(rate: ExpectedRate) -> str:
    words = {"config": "as configured", "listed": "as listed", "measured": "measured here"}[rate.source]
    return words if rate.quiet else f"{words} beside other processes: quiet cores are faster"


def _split(cost: Compute, unit: Unit) -> str:
    """A total and its parts: `1e14 = training 5.7e13 + generation 4.3e13 + scoring 0`."""
    parts = {"training": cost.training, "generation": cost.generation, "scoring": cost.scoring, "": cost.total}
    amounts = {name: work.tokens if unit == "tokens" else work.flops for name, work in parts.items()}
    words = {name: "unknown" if amount is None else _short(amount) for name, amount in amounts.items()}
    return f"{words.pop('')} = " + " + ".join(f"{name} {amount}" for name, amount in words.items())


def compute_sentence(cost: Compute, unit: Unit) -> str:
    """What a fit costs with the teacher's part, for its first line."""
    return f"{_split(cost, unit)} {_UNITS[unit]}"


def budget_words(budget: ComputeBudget) -> str:
    """`2e14 FLOPs`, `40,000 tokens`, `6 epochs`."""
    amount = f"{budget.amount:,.0f}" if budget.unit == "tokens" else _short(budget.amount)
    return f"{amount} {_UNITS[budget.unit] if budget.amount != 1 else _UNITS[budget.unit].removesuffix('s')}"


def _short(amount: float | int) -> str:
    return re.sub(r"e\+?0*", "e", f"{amount:.3g}")


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"
