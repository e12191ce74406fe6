"""Which records are kept from training: decided per prompt, so that no prompt is on two sides.

`heldout` is what results are reported on; `validation` is what choices (a learning rate) are made on, so that no choice
ever sees the answers that it is judged by.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dante.cache.records.record import Record, Split, prompt_hash
from dante.errors import DanteError
from dante.run.parts import build, is_target

WHERE = "cache.source.heldout, cache.source.validation"
SHOWN = 3
_FREE = (None, "train")


@dataclass(frozen=True)
class AtMost:
    """A number of prompts that fits a cache of any size: one at least.

    Attributes:
        prompts: never more than these.
        share: of the cache's prompts, never more than this share, in (0, 0.5].
    """

    prompts: int
    share: float

    def __post_init__(self) -> None:
        if self.prompts < 1 or not 0 < self.share <= 0.5:
            raise DanteError(
                f"prompts={self.prompts}, share={self.share:g}",
                where=WHERE,
                allowed="at least 1 prompt, and a share above 0 and at most 0.5; or a number of prompts",
            )

    def of(self, total: int) -> int:
        return min(self.prompts, max(1, int(self.share * total)))

    def __str__(self) -> str:
        return f"at most {self.prompts:,}, at most {self.share:.0%} of them,"


Holdout = int | AtMost


def prompts_of(wanted: Holdout, total: int) -> int:
    """How many of `total` prompts are to be held out: a number stands for itself."""
    return wanted.of(total) if isinstance(wanted, AtMost) else wanted


def planned(source: dict[str, Any], side: Split) -> Holdout:
    """What a cache's config says of a side."""
    wanted = source[side]
    return build(wanted) if is_target(wanted) else wanted


def held_out_words(source: dict[str, Any]) -> str:
    """What a cache's config holds out, for the plan."""
    results, choices = planned(source, "heldout"), planned(source, "validation")
    return f"prompts: {results} for results; {choices} for choices; sides that the records name stay as they are"


def prompts_to_draw_from(records: Sequence[Record]) -> list[str]:
    """A hash of every prompt that no record keeps from training."""
    return [key for key, side in _sides_of(records).items() if side in _FREE]


def split_by_prompt(records: list[Record], heldout: Holdout, validation: Holdout, seed: int) -> list[Record]:
    """The same records with `split` set, all samples and all forms of a prompt on one side.

    Records that carry a split keep it, and a record without one follows the others of its prompt; a side that some
    record names already gets no more. Prompts are ranked by a seeded stable hash, so that the choice does not depend on
    the order of the records, and a prompt stays on its side when other prompts are added, unless the boundary moves
    across it.

    Args:
        records: with or without splits.
        heldout: prompts to hold out for results, where no record is held out yet.
        validation: prompts to hold out for choices, where no record is yet.
        seed: of the ranking.

    Raises:
        DanteError: no prompt would be left to train on, or the records' own splits tear one apart.
    """
    sides, keys = _sides_of(records), [prompt_hash(record.prompt) for record in records]
    ranks = {key: prompt_hash(record.prompt, seed) for key, record in zip(keys, records, strict=True)}
    free = sorted((key for key, side in sides.items() if side in _FREE), key=ranks.__getitem__)
    named = set(sides.values())
    asked: list[tuple[Split, Holdout]] = [("heldout", heldout), ("validation", validation)]
    wanted = [(side, prompts_of(holdout, len(free))) for side, holdout in asked if side not in named]
    if sum(count for _, count in wanted) >= len(free):
        raise DanteError(
            f"{' and '.join(f'{count} prompts ({side})' for side, count in wanted)} are to be held out of {len(free)}",
            where=WHERE,
            allowed=f"at most {len(free) - 1} together",
            fix=fewer(len(free)),
        )
    start = 0
    for side, count in wanted:
        sides |= dict.fromkeys(free[start : start + count], side)
        start += count
    return [replace(record, split=sides[key] or "train") for key, record in zip(keys, records, strict=True)]


def fewer(prompts: int) -> str:
    """What to type where too many of so many prompts are to be held out."""
    if prompts < 3:
        return "give at least three prompts"
    share = max(1, prompts // 5)
    return f"cache.source.heldout={share} cache.source.validation={max(1, share // 2)}, or give more prompts"


def _sides_of(records: Sequence[Record]) -> dict[str, Split | None]:
    """The side that records name for each prompt; None where none does.

    Raises:
        DanteError: records of one prompt name different sides.
    """
    first: dict[str, Record] = {}
    torn = []
    for record in records:
        key = prompt_hash(record.prompt)
        first_record = first.setdefault(key, record)
        if first_record.split is None:
            first[key] = record
        elif record.split not in (None, first_record.split):
            torn.append(f"{first_record.id} ({first_record.split}) and {record.id} ({record.split})")
    if torn:
        raise torn_apart(torn, "cache.source.path")
    return {key: record.split for key, record in first.items()}


def torn_apart(pairs: Sequence[str], where: str) -> DanteError:
    """One prompt on two sides of the split: what is measured would have been trained on."""
    more = f"; and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
    return DanteError(
        f"records of one prompt are on different sides of the split: {'; '.join(pairs[:SHOWN])}{more}",
        where=where,
        allowed="one `split` for all records of a prompt; text, a list of one user message and white space at the ends "
        "make no other prompt",
        fix="correct their `split`, or leave the field out of all lines: then the split is drawn per prompt",
    )
