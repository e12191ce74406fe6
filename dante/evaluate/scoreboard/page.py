"""Everything that the page and the Markdown show, as plain values: the templates only lay it out."""

from collections.abc import Sequence
from typing import Any

from dante.evaluate.scoreboard.board import Board
from dante.evaluate.scoreboard.compute.figure import CAPTION
from dante.evaluate.scoreboard.compute.hours import CONVERSION, Hours
from dante.evaluate.scoreboard.pairs import CONFIDENCE, LEVEL, LOSS, RESAMPLES, TIE, WIN, Comparison
from dante.evaluate.scoreboard.protocol import BENCHMARKS
from dante.evaluate.scoreboard.references import CAVEATS, COMPUTE
from dante.look.numbers import number, probability
from dante.look.page import environment

PACKAGE = "dante.evaluate.scoreboard"
_COUNTED = {WIN: ("win", "wins"), TIE: ("tie", "ties"), LOSS: ("loss", "losses")}

METHOD = (
    "Ranked (bold: best; 1/3: first of three) are only numbers of one protocol: same task, metric, variant, task "
    "version, split, shots, chat template, decoding, harness, and the same items. A subset is never ranked against the "
    "full set. Where a column has several such groups they are lettered. Everything without a place is not ranked.",
    "A published number is ranked with ours only where its card states all of that (the split and the decoding follow "
    "from the harness's task). What a card leaves open may be anything.",
    *(
        f"Versions {same['from']} to {same['to']} of {same['harness']} count as one for {', '.join(same['tasks'])}: "
        f"{same['why']}."
        for same in BENCHMARKS["unchanged"]
    ),
    "± is the standard error over items. A place says nothing of whether a difference is larger than chance: the "
    "paired comparisons do.",
)


def content(board: Board, figure: dict[str, str] | None) -> dict[str, Any]:
    """What the templates show.

    Args:
        board: read and compared.
        figure: drawn, see `dante.look.theme.Editions.published`; None: there was no point.
    """
    names = {column.task: column.name for column in board.columns}
    return {
        "title": "Scoreboard of benchmarks",
        "counts": f"{len(board.models)} models measured here, {len(board.columns)} benchmarks",
        "columns": board.columns,
        "rows": board.rows,
        "signs": signs(board),
        "method": METHOD,
        "figure": figure,
        "notes": board.capability.notes,
        "hours": [(model.label, *_hours(model.hours)) for model in board.models if not _elsewhere(model.hours)],
        "conversion": CONVERSION,
        "compute": COMPUTE,
        "pairs": pairs(board.comparisons, names),
        "judged": judged(board.comparisons),
        "references": board.references,
        "caveats": list(CAVEATS.values()),
    }


def caption(board: Board) -> str:
    """Under the figure: what the mean is over, and what the marks mean."""
    return f"Over {'; '.join(board.capability.names)}. {CAPTION}"


def signs(board: Board) -> list[dict[str, str]]:
    """The caveats of the numbers that stand in the table."""
    shown = {sign for row in board.rows for cell in row.cells for sign in cell.signs.split(",")}
    return [dict(caveat) for caveat in CAVEATS.values() if caveat["sign"] in shown]


def pairs(comparisons: Sequence[Comparison], names: dict[str, str]) -> list[dict[str, Any]]:
    """Per pair of models: a sentence, and its differences."""
    grouped: dict[tuple[str, str], list[Comparison]] = {}
    for one in comparisons:
        grouped.setdefault((one.a, one.b), []).append(one)
    return [
        {"a": a, "b": b, "tally": tally(group), "lines": [_line(one, names[one.task]) for one in group]}
        for (a, b), group in grouped.items()
    ]


def tally(group: Sequence[Comparison]) -> str:
    """`5 wins, 1 tie, 0 losses`."""
    counts = {verdict: sum(one.verdict == verdict for one in group) for verdict in _COUNTED}
    return ", ".join(f"{count} {_COUNTED[verdict][count != 1]}" for verdict, count in counts.items())


def _line(one: Comparison, name: str) -> dict[str, str]:
    paired, how = one.paired, one.how
    return {
        "benchmark": name,
        "difference": how.signed(paired.difference),
        "interval": f"{how.signed(paired.low)} to {how.signed(paired.high)}",
        "n": f"{paired.n:,}",
        "p": probability(one.p_corrected),
        "verdict": one.verdict,
    }


def judged(comparisons: Sequence[Comparison]) -> str:
    """How the pairs were judged."""
    many = sum(one.p is not None for one in comparisons)
    return (
        "Differences are the first model's minus the second's, on the items that both were asked (same id, same text); "
        f"shares in points. Intervals: paired bootstrap over items ({RESAMPLES:,} resamples, {CONFIDENCE:.0%}, "
        f"uncorrected). A win or a loss counts where p, corrected for all {many} comparisons of this page (Holm), is "
        f"below {LEVEL:g}: so an interval may exclude zero and the verdict still be a tie. p is McNemar's exact one "
        "for items that are right or wrong, else a t test's over items. All of it speaks of these models and other "
        "questions like these, not of another training seed; a tie does not say that two models are equal."
    )


def _elsewhere(hours: Hours) -> bool:
    return hours.training is None and hours.why_not.startswith("only a student")


def _hours(hours: Hours) -> tuple[str, str]:
    if hours.training is None:
        return f"unknown: {hours.why_not}", "–"
    return number(hours.training), "unknown" if hours.with_teacher is None else number(hours.with_teacher)


def markdown(values: dict[str, Any]) -> str:
    """The scoreboard as Markdown."""
    return environment(PACKAGE).get_template("scoreboard.md.jinja").render(values)


def html(values: dict[str, Any]) -> str:
    """The scoreboard as one self-contained page."""
    return environment(PACKAGE, autoescape=True).get_template("scoreboard.html.jinja").render(values)
