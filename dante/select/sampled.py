"""The candidates of a cache: train records, all or those of one temperature, to all prompts or to some."""

from pathlib import Path

from dante.cache.records.reader import answers_to_some, read_records
from dante.cache.records.record import Record
from dante.errors import DanteError


def sampled(cache: Path, temperature: float | None, prompts: int | None = None, seed: int = 0) -> list[Record]:
    """Train records in the order of the cache.

    Args:
        cache: finished cache directory.
        temperature: at which they were sampled; None: any.
        prompts: how many prompts they answer, drawn by the seed; a smaller number is part of a larger one; None: all.
        seed: of that draw.

    Raises:
        DanteError: there are none.
    """
    return answers_to_some(_at(read_records(cache, "train"), temperature, cache), prompts, "some", seed)


def _at(records: list[Record], temperature: float | None, cache: Path) -> list[Record]:
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


def no_logprobs(record: Record) -> DanteError:
    """An answer that cannot be a candidate."""
    return DanteError(
        f"record {record.id} has no log-probabilities of the teacher",
        where="the cache that is selected from",
        allowed="answers with token_logprobs and token_ends, as every engine of this lab writes them",
        fix="let the teacher answer: cache=generated",
    )
