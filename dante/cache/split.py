"""Which records are held out: decided per prompt, so that no prompt is on both sides."""

from dataclasses import replace

from dante.cache.record import Record, stable_hash
from dante.errors import DanteError


def split_by_prompt(records: list[Record], heldout: int, seed: int) -> list[Record]:
    """The same records with `split` set; `heldout` prompts with all of their samples are held out.

    Prompts are ranked by a seeded stable hash, so that the choice does not depend on the order of the records, and a
    prompt stays on its side when other prompts are added, unless the boundary moves across it.
    """
    keys = {stable_hash(seed, record.prompt) for record in records}
    if not 0 <= heldout < len(keys):
        raise DanteError(
            f"{heldout} prompts are to be held out of {len(keys)}",
            where="cache.source.heldout",
            allowed=f"0 to {len(keys) - 1}",
            fix="hold out fewer, or give more prompts",
        )
    chosen = set(sorted(keys)[:heldout])
    return [
        replace(record, split="heldout" if stable_hash(seed, record.prompt) in chosen else "train")
        for record in records
    ]
