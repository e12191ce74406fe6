"""Which held-out records are scored: the same ones for every seed and every run that shares the cache."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from dante.cache import Record


def by_hash(records: Sequence[Record]) -> list[Record]:
    """Records in an order that looks random but depends on nothing except their ids."""
    return sorted(records, key=lambda record: hashlib.sha256(record.id.encode()).digest())


def select(records: Sequence[Record], limit: int | None) -> list[Record]:
    """At most `limit` records (None: all), drawn by hash of the id, returned in the order of the hash."""
    return by_hash(records)[:limit]


def text_hash(record: Record) -> str:
    """Identity of the text that is scored, so that two runs are only joined on equal text."""
    return hashlib.sha256(record.teacher_text.encode()).hexdigest()[:16]


def slices(records: Sequence[Record]) -> dict[str, Int64[np.ndarray, "_"]]:
    """Row numbers per slice: `domain=…`, then `language=…`, where there are several."""
    rows_of: dict[str, Int64[np.ndarray, _]] = {}
    for field in ("domain", "language"):
        values = [getattr(record, field) for record in records]
        distinct_values = sorted({value for value in values if value is not None})
        if len(distinct_values) > 1:
            for value in distinct_values:
                rows = [row for row, row_value in enumerate(values) if row_value == value]
                rows_of[f"{field}={value}"] = np.array(rows, dtype=np.int64)
    return rows_of
