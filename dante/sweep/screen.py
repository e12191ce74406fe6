"""What a sweep says on the terminal: its points before they start, what tuning chose, and how it ended."""

import math

from rich.markup import escape
from rich.table import Table

from dante import console
from dante.errors import DanteError
from dante.sweep.process import LOG
from dante.sweep.record import PlannedPoint, SweepRecord
from dante.sweep.settings import Tune
from dante.sweep.tuning import METRIC, Choices, place


def plan(record: SweepRecord, points: list[PlannedPoint], tune: Tune | None, seeds: list[str]) -> None:
    """The points, with what is finished already and what cannot run.

    Args:
        record: the sweep.
        points: that are known before anything has run; with tuning, one per arm.
        tune: the tuning, or None.
        seeds: of every arm.
    """
    out = console.screen()
    finished = sum(point.status == "done" for point in points)
    arms = len({point.arm for point in points})
    runs = _tuned_runs(arms, tune, seeds) if tune else _count(len(points), "run")
    out.print(f"\n[bold]sweep[/] {escape(record.folder.name)} · {_count(arms, 'arm')} · {runs}")
    if tune:
        places = [f"{key} of {{{', '.join(map(str, values))}}}" for key, values in tune.grid.items()]
        places += [f"{tune.trials} trials of {key} in {text}" for key, text in tune.search.items()]
        out.print(
            f"[dim]equal tuning: every arm with {escape(' × '.join(places))}, seed {tune.seed}; chosen by {METRIC},\n"
            "then the chosen one with every seed[/]"
        )
    if record.compute:
        out.print(f"[dim]equal compute: {record.compute['amount']:g} {record.compute['unit']} for every point[/]")
    out.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("arm",) if tune else ("arm", "runs", "complete"):
        table.add_column(column, justify="left" if column == "arm" else "right", overflow="fold")
    for arm in dict.fromkeys(point.arm for point in points):
        arm_points = [point for point in points if point.arm == arm]
        complete = sum(point.status == "done" for point in arm_points)
        refused = sum(point.error is not None for point in arm_points)
        remark = f" [red]{refused} cannot run[/]" if refused else ""
        table.add_row(*([escape(arm) + remark] if tune else [escape(arm), str(len(arm_points)), f"{complete}{remark}"]))
    out.print(table)
    if finished and not tune:
        out.print(f"[dim]{finished} of {len(points)} are complete and not repeated[/]")
    for point in points:
        if point.error:
            console.error(DanteError(f"{point.run}: {point.error}"))
    out.print(f"[dim]what a run prints: {escape(console.short(record.folder.parent))}/<run>/{LOG}[/]\n")


def _tuned_runs(arms: int, tune: Tune, seeds: list[str]) -> str:
    """The chosen runs of the tuning's seed are not trained twice, unless tuning changes more than the grid."""
    each = math.prod(len(values) for values in tune.grid.values()) if tune.grid else tune.trials
    shared = str(tune.seed) in seeds and not tune.overrides
    return f"{_count(arms * each, 'run')} to choose by, then {arms * (max(1, len(seeds)) - shared)} more"


def choices(found: Choices, tune: Tune) -> None:
    """Scores of the tuning by arm, the choice marked."""
    table = Table(box=None, pad_edge=False, header_style="dim", title=f"tuning: {METRIC}", title_justify="left")
    # A search tries other places in every arm: its best one is what there is to see.
    places = list(found.places) if tune.grid else []
    for column in ("arm", *(places or ["best", METRIC, "trials"])):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, scores in found.scores.items():
        best = found.best(arm)
        cells = []
        if best and not places:
            cells = [place(best), f"{scores[place(best)]:.4f}", str(len(scores))]
        for name in places:
            value = f"{scores[name]:.4f}" if name in scores else "failed"
            cells.append(f"[bold green]{value} *[/]" if best and name == place(best) else f"{value}  ")
        table.add_row(escape(arm), *cells)
    console.screen().print(table)
    at_edge = [arm for arm in found.scores if found.at_edge(arm, tune)]
    if at_edge:
        console.note(
            f"{len(at_edge)} of {len(found.scores)} arms chose the first or last value of the grid: a better one may "
            f"lie outside ({', '.join(at_edge[:4])}{' …' if len(at_edge) > 4 else ''})"
        )
    console.screen().print()


def result(record: SweepRecord) -> None:
    """How many runs there are, which failed and why, and where the comparison lies."""
    out = console.screen()
    failed = [point for point in record.points if point.status != "done"]
    done = len({point.run for point in record.points if point.status == "done"})
    out.print(
        f"\n[bold green]{_count(done, 'run')} done[/]" + (f", [bold red]{len(failed)} failed[/]" if failed else "")
    )
    for point in failed:
        console.error(DanteError(f"{point.run}: {point.error}"))
    _compare(record)
    if failed:
        out.print("[dim]The same command tries what failed again; what is complete is not repeated.[/]")
    out.print(f"[bold]sweep[/] → {escape(console.short(record.folder))}/")


def _compare(record: SweepRecord) -> None:
    from dante.report.comparison.command import write_comparison

    if not any(_evaluated(point) for point in record.points):
        console.note("no run has been evaluated, so there is nothing to compare")
        return
    try:
        page = write_comparison([record.folder], record.folder, record.baseline)
    except DanteError as error:
        console.error(error)
        return
    console.screen().print(f"  comparison {escape(console.short(page))}")


def _evaluated(point: PlannedPoint) -> bool:
    return point.status == "done" and point.phase == "final" and any(point.run_dir.glob("*/eval.json"))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
