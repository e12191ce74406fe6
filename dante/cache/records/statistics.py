"""What a cache looks like: lengths, entropies, and the distribution of the confidence weight w(H).

Everything is read from the columns of the index (`dante.cache.records.columns`), so that no record is parsed for it.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from dante.teachers.uncertainty import confidence_weight

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def summary_lines(columns: pa.Table) -> list[str]:
    """Lines of text to print: counts, then quantiles of length, entropy and w(H).

    Look at w before training with CWCE: at typical entropies it is nearly constant, and so is the loss's weighting.
    """
    lines = [
        f"records          {len(columns)}, {_shares(labels(columns, 'split'))}",
        f"domains          {_shares(labels(columns, 'domain'))}",
        f"languages        {_shares(labels(columns, 'language'))}",
        f"finish reasons   {_shares(labels(columns, 'finish_reason'))}",
        f"quantiles        {'  '.join(f'{q:>7.0%}' for q in QUANTILES)}     mean",
    ]
    return lines + [_row(name, values, decimals) for name, values, decimals in measures(columns)]


def measures(columns: pa.Table) -> list[tuple[str, np.ndarray, int]]:
    """(name with unit, one value per record that has one, decimals to print); what no record has is left out."""
    entropy = numbers(columns, "output_entropy")
    candidates = [
        ("answer bytes", numbers(columns, "answer_bytes"), 0),
        ("answer tokens", numbers(columns, "tokens"), 0),
        ("H nats/token", entropy, 3),
        ("H upper", numbers(columns, "output_entropy_upper"), 3),
        ("w(H)", confidence_weight(entropy), 3),
    ]
    return [(name, values, decimals) for name, values, decimals in candidates if len(values)]


def numbers(columns: pa.Table, name: str) -> np.ndarray:
    """A column's values, nulls left out."""
    return columns.column(name).drop_null().to_numpy()


def labels(columns: pa.Table, name: str) -> list[str]:
    """A column of names; what is null is `unknown`, and a record without a split counts as training data."""
    missing = "train" if name == "split" else "unknown"
    return columns.column(name).cast(pa.string()).fill_null(missing).to_pylist()


def _shares(values: Iterable[str]) -> str:
    counts = Counter(values)
    total = sum(counts.values())
    return ", ".join(f"{name} {count} ({count / total:.1%})" for name, count in counts.most_common())


def _row(name: str, values: np.ndarray, decimals: int) -> str:
    quantiles = "  ".join(f"{value:7.{decimals}f}" for value in np.quantile(values, QUANTILES))
    return f"{name:<16} {quantiles}  {values.mean():7.{max(decimals, 1)}f}"
