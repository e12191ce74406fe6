"""`show`: records as text with every token coloured by its surprisal, in the terminal and as one HTML page."""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.text import Text

from dante.cache.records.conversation import Message, messages_of
from dante.cache.records.index import IndexedCache
from dante.cache.records.record import Record
from dante.cache.records.statistics import labels
from dante.cache.shipped import POCKET
from dante.cache.tools.surprisal import STEPS_NATS, Piece, pieces
from dante.errors import DanteError
from dante.teachers.uncertainty import confidence_weight

# Pale to strong; on the last ones dark text would be unreadable in a light terminal and light text in a dark one.
TERMINAL = ("", "on #fff3d6", "on #ffe0a3", "on #ffc56b", "on #ff9c4a", "on #f2663a", "on #c92a2a")
INK = ("", *["#1d2733"] * 4, "#ffffff", "#ffffff")


class Shown(NamedTuple):
    """A record as both renderings need it."""

    record: Record
    messages: list[Message]
    pieces: list[Piece]
    weight: float

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Short labels and values: entropy, w(H), self-consistency, finish reason, and what else is known."""
        record = self.record
        upper = "" if record.output_entropy_upper is None else f" to {record.output_entropy_upper:.3f}"
        consistency = record.self_consistency
        facts: list[tuple[str, Any]] = [
            ("H", f"{record.output_entropy:.3f}{upper} nats/token"),
            ("w(H)", f"{self.weight:.3f}"),
            ("self-consistency", "not measured" if consistency is None else f"{consistency:.2f}"),
            ("finish", record.finish_reason or "unknown"),
            ("tokens", None if record.token_ends is None else len(record.token_ends)),
            ("temperature", record.temperature),
            ("domain", record.domain),
            ("language", record.language),
            ("split", record.split or "train"),
        ]
        return [(name, str(value)) for name, value in facts if value is not None]


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("show", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=POCKET, help="default: the pocket cache")
    parser.add_argument("--count", type=int, default=12, help="records, spread over all entropies (default: 12)")
    parser.add_argument("--id", action="append", default=[], help="this record; may be repeated")
    parser.add_argument("--domain", help="only records of this domain")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write one self-contained page instead")


def run(args: argparse.Namespace) -> int:
    """Prints the records, or writes the page."""
    cache = IndexedCache(args.directory, keep=False)
    chosen = [shown(record) for record in select(cache, args.count, args.id, args.domain)]
    if args.html:
        from dante.look.page import render

        title = f"{args.directory.resolve().name}: {len(chosen)} of {len(cache):,} records"
        args.html.parent.mkdir(parents=True, exist_ok=True)
        args.html.write_text(
            render(__package__, "show.html.jinja", title=title, shown=chosen, steps=step_names()), encoding="utf-8"
        )
        print(f"wrote {args.html}")
        return 0
    console = Console(highlight=False)
    legend = Text("surprisal in nats:  ")
    for step, name in enumerate(step_names()):
        legend.append(f" {name} ", style=style(step)).append(" ")
    console.print(legend)
    for item in chosen:
        console.print(in_terminal(item))
    return 0


def select(cache: IndexedCache, count: int, ids: list[str], domain: str | None) -> list[Record]:
    """The named records, or `count` ones at even steps of the entropy order: the surest, the least sure, and between.

    Raises:
        DanteError: an id or a domain that the cache does not have, or a count below one.
    """
    if ids:
        return [cache.by_id(identity) for identity in ids]
    if count < 1:
        raise DanteError(f"{count} records", where="--count", allowed="a whole number from 1")
    domains = np.array(labels(cache.columns, "domain"))
    rows = np.flatnonzero(domains == domain) if domain is not None else np.arange(len(cache))
    if not len(rows):
        domain_list = ", ".join(sorted(set(domains.tolist()))) or "none: the cache is empty"
        raise DanteError(f"no records of the domain {domain!r}", where=str(cache.source), allowed=domain_list)
    entropy = cache.columns.column("output_entropy").to_numpy()[rows]
    ordered = rows[np.argsort(entropy, kind="stable")]
    places = np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int))
    return [cache.record(int(row)) for row in ordered[places]]


def shown(record: Record) -> Shown:
    """A record with its messages, its coloured pieces and its weight."""
    weight = float(confidence_weight(np.array([record.output_entropy]))[0])
    return Shown(record, messages_of(record.prompt), list(pieces(record)), weight)


def step_names() -> list[str]:
    """What the colour steps stand for."""
    starts = (0.0, *STEPS_NATS)
    return [f"{start:g}–{end:g}" for start, end in zip(starts, STEPS_NATS, strict=False)] + [f"> {STEPS_NATS[-1]:g}"]


def style(step: int) -> str:
    """Rich style of a colour step."""
    return f"{INK[step]} {TERMINAL[step]}".strip() if step > 0 else ""


def in_terminal(item: Shown) -> Text:
    """One record as coloured text; control characters that a model wrote do not reach the terminal."""
    text = Text(f"\n{'─' * 72}\n{visible(item.record.id)}\n", style="bold")
    text.append("   ".join(f"{name} {visible(value)}" for name, value in item.facts) + "\n\n", style="not bold dim")
    for message in item.messages:
        text.append(f"{message['role']}: ", style="not bold dim").append(visible(message["content"]) + "\n", "not bold")
    text.append("teacher: ", style="not bold dim")
    for piece in item.pieces:
        text.append(visible(piece.text), style=f"not bold {style(piece.step)}".strip())
    if item.pieces[0].surprisal is None:
        text.append("\n(no log-probabilities of tokens in this record)", style="not bold dim italic")
    return text


def visible(text: str) -> str:
    """Text without control characters, line breaks and tabs excepted: they could drive the terminal."""
    return "".join(c if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160) else "\ufffd" for c in text)
