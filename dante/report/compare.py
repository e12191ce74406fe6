"""Runs beside each other: their students' bits per byte, and paired differences from the first run's student.

Runs are joined by record id. They must have scored the same held-out texts: a difference of two means over different
texts says nothing, so anything else is refused. The interval covers the choice of texts, not the training seed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from dante.errors import DanteError
from dante.evaluate.bootstrap import paired_difference
from dante.evaluate.ratio import Ratio
from dante.jsonl import read_lines

RESAMPLES = 10_000
CONFIDENCE = 0.95


def compare(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """One row per run: name, student's bits per byte, standard error, items, difference from the first with interval.

    Args:
        runs: run directories, or directories of finished eval steps.

    Raises:
        DanteError: a run has no items, or its held-out texts differ from the first run's.
    """
    tables = [_items(run) for run in runs]
    first = tables[0]
    ids = sorted(first)
    rows = []
    for run, table in zip(runs, tables, strict=True):
        _check_same_texts(runs[0], first, run, table)
        mine = _bits_per_byte(table, ids)
        row: dict[str, Any] = {
            "run": run.resolve().name,
            "bits_per_byte": mine.value,
            "stderr": mine.stderr,
            "n": len(ids),
            "difference": None,
        }
        if table is not first:
            base = _bits_per_byte(first, ids)
            row["difference"] = paired_difference(mine, base, resamples=RESAMPLES, confidence=CONFIDENCE, seed=0)
        rows.append(row)
    return rows


def _bits_per_byte(table: dict[str, dict[str, Any]], ids: Sequence[str]) -> Ratio:
    bits = np.array([table[key]["bits"]["student"] for key in ids])
    return Ratio(bits, np.array([table[key]["bytes"] for key in ids], dtype=np.float64))


def rich_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The comparison for a terminal."""
    table = Table(title="Student: bits per byte of held-out answers (lower is better)")
    for name in _header(rows):
        table.add_column(name, justify="left" if name == "run" else "right")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The comparison as a Markdown table with a line on what the interval means."""
    header = _header(rows)
    lines = ["| " + " | ".join(header) + " |", "|---|" + "--:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    note = (
        f"Paired bootstrap over {rows[0]['n']} held-out answers, {RESAMPLES} resamples, {CONFIDENCE:.0%} interval; "
        "it covers the choice of answers, not another training seed."
    )
    return "\n".join(lines) + f"\n\n{note}\n"


def _header(rows: Sequence[dict[str, Any]]) -> list[str]:
    return ["run", "bits per byte", "standard error", "answers", f"minus {rows[0]['run']}", "interval"]


def _cells(row: dict[str, Any]) -> list[str]:
    gap = row["difference"]
    stderr = "–" if row["stderr"] is None else f"{row['stderr']:.4f}"
    cells = [row["run"], f"{row['bits_per_byte']:.4f}", stderr, str(row["n"])]
    return cells + (["–", "–"] if gap is None else [f"{gap.difference:+.4f}", f"{gap.low:+.4f} to {gap.high:+.4f}"])


def _items(run: Path) -> dict[str, dict[str, Any]]:
    path = next((p for p in (run / "eval" / "items.jsonl", run / "items.jsonl") if p.is_file()), None)
    if path is None:
        raise DanteError(
            f"{run} has no evaluated items",
            where=str(run / "eval" / "items.jsonl"),
            allowed="a run whose eval step is complete, or the directory of an eval step",
            fix="run its eval step first",
        )
    return {item["id"]: item for item in read_lines(path)}


def _check_same_texts(
    first_run: Path, first: dict[str, dict[str, Any]], run: Path, table: dict[str, dict[str, Any]]
) -> None:
    if first.keys() != table.keys():
        only = sorted(first.keys() ^ table.keys())
        problem = f"{len(only)} held-out records stand in only one of the two, such as {only[0]}"
    else:
        other = sorted(key for key in first if first[key]["text_sha256"] != table[key]["text_sha256"])
        if not other:
            return
        problem = f"{len(other)} held-out records have other texts, such as {other[0]}"
    raise DanteError(
        f"{run} and {first_run} were not scored on the same answers: {problem}",
        where=str(run),
        allowed="runs that share the cache and eval.heldout",
        fix="evaluate both on one cache",
    )
