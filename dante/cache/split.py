"""Which records are kept from training: decided per prompt, so that no prompt is on two sides.

`heldout` is what results are reported on; `validation` is what choices (a learning rate) are made on, so that no choice
ever sees the answers that it is judged by.
"""

from dataclasses import replace

from dante.cache.record import Record, Split, stable_hash
from dante.errors import DanteError


def split_by_prompt(records: list[Record], heldout: int, validation: int, seed: int) -> list[Record]:
    """The same records with `split` set, all samples of a prompt on one side.

    Records that carry a split keep it; a side that some record names already gets no more. Prompts are ranked by a
    seeded stable hash, so that the choice does not depend on the order of the records, and a prompt stays on its side
    when other prompts are added, unless the boundary moves across it.

    Args:
        records: with or without splits.
        heldout: prompts to hold out for results, where no record is held out yet.
        validation: prompts to hold out for choices, where no record is yet.
        seed: of the ranking.

    Raises:
        DanteError: no prompt would be left to train on.
    """
    given = {record.split for record in records}
    sides: list[tuple[Split, int]] = [("heldout", heldout), ("validation", validation)]
    wanted = [(side, count) for side, count in sides if side not in given]
    free = sorted({stable_hash(seed, record.prompt) for record in records if record.split in (None, "train")})
    if sum(count for _, count in wanted) >= len(free):
        raise DanteError(
            f"{' and '.join(f'{count} prompts ({side})' for side, count in wanted)} are to be held out of {len(free)}",
            where="cache.source.heldout, cache.source.validation",
            allowed=f"at most {len(free) - 1} together",
            fix="hold out fewer, or give more prompts",
        )
    chosen: dict[str, Split] = {}
    for side, count in wanted:
        chosen |= dict.fromkeys(free[len(chosen) : len(chosen) + count], side)
    return [
        record
        if record.split not in (None, "train")
        else replace(record, split=chosen.get(stable_hash(seed, record.prompt), "train"))
        for record in records
    ]
