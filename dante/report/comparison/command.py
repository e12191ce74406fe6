"""Paths of runs and sweeps → one page, the same in Markdown, the numbers as CSV and JSON, the figures."""

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.progress import track
from rich.table import Table

from dante import console
from dante.look.numbers import probability
from dante.look.theme import editions
from dante.report.comparison.export import csv_text, json_text
from dante.report.comparison.factors import FactorEffect, effects
from dante.report.comparison.figures import STEMS, all_figures
from dante.report.comparison.judge import CONFIDENCE, Result, judge
from dante.report.comparison.page import Judged, content
from dante.report.comparison.runs.arms import group
from dante.report.comparison.runs.find import Found, Json, find
from dante.report.comparison.runs.read import read_trained
from dante.report.comparison.tables import separate
from dante.report.comparison.words import digits, signed
from dante.report.stage import templates
from dante.system.files import write_text


def compare(paths: Sequence[Path], baseline: str | None = None) -> tuple[list[Judged], Found]:
    """Reads and judges, and writes nothing.

    Args:
        paths: directories of runs and of sweeps.
        baseline: the arm that the others are compared with; None: a sweep's, else plain fine-tuning, else the first.

    Raises:
        DanteError: there is no run, one has no evaluation, no arm has that name, a file is damaged.
    """
    found_runs = find(paths)
    watched = track(found_runs.points, "reading runs", console=console.screen(), transient=True, disable=_quiet())
    arms = group([read_trained(point) for point in watched])
    with console.screen().status("comparing") as status:
        tables = separate(arms, found_runs, baseline)
        return [(table, judge(table, lambda what: status.update(f"comparing {what}"))) for table in tables], found_runs


def write_comparison(paths: Sequence[Path], out: Path, baseline: str | None = None) -> Path:
    """Writes `index.html`, `comparison.md`, `comparison.csv`, `comparison.json` and `*.png` into `out`.

    Args:
        paths: directories of runs and of sweeps.
        out: directory; what an earlier comparison left in it is replaced.
        baseline: see `compare`.

    Returns:
        The page.

    Raises:
        DanteError: see `compare`.
    """
    tables, found_runs = compare(paths, baseline)
    return write(tables, found_runs, out)


def write(tables: list[Judged], found: Found, out: Path) -> Path:
    """The same of what was compared already. The page comes last: where it is, all it points to is complete."""
    out.mkdir(parents=True, exist_ok=True)
    for old in [*(path for stem in STEMS for path in out.glob(f"{stem}*.png")), out / "index.html"]:
        old.unlink(missing_ok=True)
    factors = [effects(group, results) for group, results in tables]
    facts = content(tables, factors, found, _drawn(tables, factors, found, out))
    write_text(out / "comparison.csv", csv_text(tables, factors))
    write_text(out / "comparison.json", json_text(tables, factors, found))
    markdown = templates(autoescape=False).get_template("comparison/comparison.md.jinja")
    write_text(out / "comparison.md", markdown.render(facts))
    page = templates(autoescape=True).get_template("comparison/index.html.jinja")
    write_text(out / "index.html", page.render(facts))
    return out / "index.html"


def _drawn(
    tables: list[Judged], factors: list[list[FactorEffect]], found_runs: Found, out: Path
) -> dict[str, list[Json]]:
    """Section → figures, in light and dark; the light ones as files, too."""
    figures: dict[str, list[Json]] = {}
    drawings = all_figures(tables, factors, found_runs)
    for stem, drawing in track(drawings.items(), "drawing", console=console.screen(), transient=True, disable=_quiet()):
        drawn = editions(drawing.draw)
        if drawn is not None:
            figures.setdefault(drawing.section, []).append(drawn.published(out / f"{stem}.png", drawing.caption))
    return figures


def rich_table(results: Sequence[Result], title: str) -> Table:
    """The primary metric for a terminal; the first metric where there is no primary one."""
    result = results[0]
    how, places = result.how, digits(result)
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False, header_style="dim")
    table.add_column("arm", overflow="fold")
    for name in (how.label, "difference", f"{CONFIDENCE:.0%} interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for cell in result.cells:
        effect = cell.effect
        has_interval = effect is not None and effect.low is not None and effect.high is not None
        spread = "" if cell.sd is None else f" ± {how.value(cell.sd, places).removesuffix('%')}"
        table.add_row(
            escape(cell.arm),
            how.value(cell.mean, places) + spread if cell.values else "–",
            signed(how, effect.difference, places) if effect else "",
            f"{signed(how, effect.low, places)} {signed(how, effect.high, places)}" if has_interval else "",  # type: ignore[union-attr,arg-type]
            probability(cell.p_corrected) if effect else "",
            cell.verdict or cell.why_not or ("baseline" if cell is result.baseline else "not judged"),
        )
    return table


def _quiet() -> bool:
    return not console.is_terminal()
