"""What a cache looks like: lengths, entropies, and the distribution of the confidence weight w(H)."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from dante.cache.record import Record
from dante.cache.uncertainty import confidence_weight

QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def summary_lines(records: Sequence[Record]) -> list[str]:
    """Lines of text to print: counts, then quantiles of length, entropy and w(H).

    Look at w before training with CWCE: at typical entropies it is nearly constant, and so is the loss's weighting.
    """
    entropy = np.array([record.output_entropy for record in records])
    upper = np.array([r.output_entropy_upper for r in records if r.output_entropy_upper is not None])
    tokens = np.array([len(r.token_ends) for r in records if r.token_ends is not None])
    lines = [
        f"records          {len(records)}, {_shares(r.split or 'train' for r in records)}",
        f"domains          {_shares(r.domain or 'unknown' for r in records)}",
        f"languages        {_shares(r.language or 'unknown' for r in records)}",
        f"finish reasons   {_shares(r.finish_reason or 'unknown' for r in records)}",
        f"quantiles        {'  '.join(f'{q:>7.0%}' for q in QUANTILES)}     mean",
    ]
    lines.append(_row("answer bytes", np.array([len(r.teacher_text.encode("utf-8")) for r in records]), 0))
    if len(tokens):
        lines.append(_row("answer tokens", tokens, 0))
    lines.append(_row("H nats/token", entropy, 3))
    if len(upper):
        lines.append(_row("H upper", upper, 3))
    lines.append(_row("w(H)", confidence_weight(entropy), 3))
    return lines


def _shares(values: Iterable[str]) -> str:
    counts = Counter(values)
    total = sum(counts.values())
    return ", ".join(f"{name} {count} ({count / total:.1%})" for name, count in counts.most_common())


def _row(name: str, values: np.ndarray, decimals: int) -> str:
    quantiles = "  ".join(f"{value:7.{decimals}f}" for value in np.quantile(values, QUANTILES))
    return f"{name:<16} {quantiles}  {values.mean():7.{max(decimals, 1)}f}"
