"""The candidates of a cache: train records, all or those of one temperature."""

from pathlib import Path

from dante.cache.records.reader import read_records
from dante.cache.records.record import Record
from dante.errors import DanteError


def sampled(cache: Path, temperature: float | None) -> list[Record]:
    """Train records in the order of the cache.

    Args:
        cache: finished cache directory.
        temperature: at which they were sampled; None: any.

    Raises:
        DanteError: there are none.
    """
    records = read_records(cache, "train")
    if temperature is None:
        return records
    kept = [record for record in records if record.temperature == temperature]
    if not kept:
        known = sorted({record.temperature for record in records if record.temperature is not None})
        listing = ", ".join(f"{value:g}" for value in known) or "none that the records name"
        raise DanteError(
            f"the cache has no answers that were sampled at temperature {temperature:g}",
            where=str(cache),
            allowed=listing,
            fix="let the teacher answer at it: cache=generated cache.source.decoding.temperature=[0.6,1.0]",
        )
    return kept
