"""`audit`: does this cache fit this student? Masks to look at, stop tokens, lengths, tokens per byte, epochs."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dante.cache.records.index import IndexedCache
from dante.cache.tools.show import visible
from dante.errors import DanteError

if TYPE_CHECKING:
    from dante.data.audit import Audit

STYLES = {"prompt": "dim", "target": "black on #bfe3c9", "end": "bold white on #16825d", "rest": "dim"}
QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("audit", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--student", required=True, metavar="FOLDER_OR_ID", help="its tokenizer; no weights are loaded")
    parser.add_argument("--teacher", metavar="FOLDER_OR_ID", help="without it, the cache's own token counts are used")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="pack length of the fit (fit.max_tokens)")
    parser.add_argument("--steps", type=int, metavar="S", help="optimizer steps (fit.steps)")
    parser.add_argument("--batch", type=int, metavar="B", help="records per step (fit.batch)")
    parser.add_argument("--count", type=int, default=3, help="conversations to show (default: 3)")
    parser.add_argument(
        "--template", action="append", default=[], metavar="KEY=VALUE",
        help="variable of the student's chat template, such as enable_thinking=false; repeatable",
    )  # fmt: skip
    parser.add_argument("--html", type=Path, metavar="OUT", help="also write one self-contained page")


def run(args: argparse.Namespace) -> int:
    """Prints what was found; 1 when there are problems."""
    from dante.data.audit import audit  # transformers is slow to load
    from dante.text.stops import load_model

    cache = IndexedCache(args.directory, keep=False)
    if not len(cache):
        raise DanteError("the cache is empty", where=str(args.directory))
    for option in ("max_tokens", "steps", "batch", "count"):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            raise DanteError(f"{getattr(args, option)}", where=f"--{option.replace('_', '-')}", allowed="at least 1")
    student = load_model(args.student, True, _variables(args.template))
    teacher = load_model(args.teacher, False, {}) if args.teacher else None
    report = audit(cache, student, teacher, args.max_tokens, args.steps, args.batch, args.count)
    _print(report, Console(highlight=False))
    if args.html:
        from dante.look.page import render

        title = f"{Path(args.student).name} on {args.directory.resolve().name}"
        page = render(
            __package__,
            "audit.html.jinja",
            title=title,
            found=report,
            lengths=lengths(report),
            compression=compression(report),
        )
        args.html.parent.mkdir(parents=True, exist_ok=True)
        args.html.write_text(page, encoding="utf-8")
        print(f"wrote {args.html}")
    return 1 if report.problems else 0


def lengths(found: "Audit") -> list[tuple[str, str]]:
    """Quantiles of the conversations' lengths in the student's tokens."""
    if not len(found.tokens):
        return []
    return [
        (f"{q:.0%}", f"{value:,.0f}") for q, value in zip(QUANTILES, np.quantile(found.tokens, QUANTILES), strict=True)
    ]


def compression(found: "Audit") -> list[tuple[str, str, str, str, str]]:
    """Per language: answer bytes, tokens per byte of student and teacher, and the ratio of both token counts."""
    lines = []
    for name, (size, student_tokens, teacher_tokens) in sorted(found.compression.items(), key=lambda item: -item[1][0]):
        ratio = f"{student_tokens / teacher_tokens:.3f}" if teacher_tokens else "–"
        lines.append(
            (
                name,
                f"{size:,}",
                f"{student_tokens / size:.4f}",
                f"{teacher_tokens / size:.4f}" if teacher_tokens else "–",
                ratio,
            )
        )
    return lines


def _variables(pairs: Sequence[str]) -> dict[str, Any]:
    variables = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise DanteError(f"{pair!r}", where="--template", allowed="KEY=VALUE, such as enable_thinking=false")
        try:
            variables[key] = json.loads(value)
        except ValueError:
            variables[key] = value
    return variables


def _print(report: "Audit", console: Console) -> None:
    for problem in report.problems:
        console.print(Text.assemble(("problem  ", "bold red"), visible(problem)))
    for note in report.notes:
        console.print(Text.assemble(("note     ", "yellow"), visible(note)))
    console.print(f"masks    {report.closed:,} of {report.records:,} records end theirs with the end-of-turn token")
    models = Table(box=box.SIMPLE_HEAD)
    models.add_column("")
    shown = [("student", report.student), *([("teacher", report.teacher)] if report.teacher else [])]
    for role, model in shown:
        models.add_column(f"{role}: {Path(model.name).name}")
    for facts in zip(*(model.facts() for _, model in shown), strict=True):
        models.add_row(facts[0][0], *(value for _, value in facts))
    console.print(models)
    table = Table(title="tokens per byte of the answers", title_justify="left", box=box.SIMPLE_HEAD)
    for head in ("language", "bytes", "student", "teacher", "student / teacher"):
        table.add_column(head, justify="left" if head == "language" else "right")
    for line in compression(report):
        table.add_row(*line)
    console.print(table)
    console.print(
        "conversation, student's tokens:  " + "   ".join(f"{name} {value}" for name, value in lengths(report))
    )
    for example in report.examples:
        text = Text(f"\n{'─' * 72}\n{visible(example.record.id)}\n")
        for piece, kind in example.segments:
            text.append(visible(piece), style=STYLES[kind])
        console.print(text)
