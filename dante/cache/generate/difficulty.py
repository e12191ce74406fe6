"""`difficulty_score`, written when a cache is sealed, because half of it is a rank over the whole cache."""

from dataclasses import replace

import numpy as np

from dante.cache.records.record import Record


def with_difficulty(records: list[Record]) -> list[Record]:
    """difficulty = ½ · percentile rank of output_entropy + ½ · (1 − self_consistency), in [0, 1] [I].

    Equal entropies share their mean rank. A record whose self-consistency was not measured (greedy decoding alone
    cannot give it) keeps null.
    """
    if not any(record.self_consistency is not None for record in records):
        return records
    ranks = percentile_ranks(np.array([record.output_entropy for record in records]))
    return [
        record
        if record.self_consistency is None
        else replace(record, difficulty_score=0.5 * float(rank) + 0.5 * (1.0 - record.self_consistency))
        for record, rank in zip(records, ranks, strict=True)
    ]


def percentile_ranks(values: np.ndarray) -> np.ndarray:
    """Rank in [0, 1] of every value among all; ties share their mean rank, a single value has 0.5."""
    if len(values) < 2:
        return np.full(len(values), 0.5)
    ordered = np.sort(values)
    below, up_to = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return (below + up_to - 1) / 2 / (len(values) - 1)
