"""`stats`: what a cache's entropies, weights and lengths look like, as tables and as one picture."""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich import box
from rich.console import Console
from rich.table import Table

from dante.cache.records.index import IndexedCache
from dante.cache.records.statistics import QUANTILES, labels, measures, numbers
from dante.cache.shipped import POCKET
from dante.errors import DanteError
from dante.teachers.uncertainty import confidence_weight


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("stats", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=POCKET, help="default: the pocket cache")
    parser.add_argument("--png", type=Path, metavar="OUT", help="draw the distributions into this file")


def run(args: argparse.Namespace) -> int:
    """Prints the tables, and writes the picture if asked."""
    columns = IndexedCache(args.directory, keep=False).columns
    if not len(columns):
        raise DanteError("the cache is empty", where=str(args.directory))
    console = Console()
    for table in (quantiles(columns), *(groups(columns, name) for name in ("domain", "finish_reason", "split"))):
        console.print(table)
    if args.png:
        from dante.cache.tools.figures import overview  # matplotlib is slow to load

        args.png.parent.mkdir(parents=True, exist_ok=True)
        args.png.write_bytes(overview(columns))
        print(f"wrote {args.png}")
    return 0


def quantiles(columns: pa.Table) -> Table:
    """One row per measure."""
    table = Table(title=f"{len(columns):,} records", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for quantile in QUANTILES:
        table.add_column(f"{quantile:.0%}", justify="right")
    table.add_column("mean", justify="right")
    for name, values, decimals in measures(columns):
        cells = [f"{value:,.{decimals}f}" for value in np.quantile(values, QUANTILES)]
        table.add_row(name, *cells, f"{values.mean():,.{max(decimals, 1)}f}")
    return table


def groups(columns: pa.Table, name: str) -> Table:
    """One row per domain, finish reason or split: how many, how uncertain, how heavy, how long."""
    table = Table(title=name.replace("_", " "), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for head in ("records", "share", "mean H", "mean w(H)", "median bytes"):
        table.add_column(head, justify="right")
    given = np.array(labels(columns, name))
    entropy, size = numbers(columns, "output_entropy"), numbers(columns, "answer_bytes")
    for label, count in Counter(given.tolist()).most_common():
        rows = given == label
        weight = confidence_weight(entropy[rows]).mean()
        figures = f"{entropy[rows].mean():.3f}", f"{weight:.3f}", f"{np.median(size[rows]):,.0f}"
        table.add_row(label, f"{count:,}", f"{count / len(given):.1%}", *figures)
    return table
