"""The plan of a fit: which records every optimizer step shows, and how they share rows.

Everything follows from record lengths, so the plan of all steps is made at once, before any text is touched. Records
of one step are packed first-fit into rows of at most `max_tokens`, never across steps: packing cannot break the
curriculum. The plan does not know how many ranks there are; a step's packs are divided among ranks when they are
asked for. Hence a step shows the same records at any world size, and a resumed run is a run that starts at step k.

A step is full [I: "~128 sequences" says nothing about packing] after `size` records, or when the next record fits
into none of `size` packs, or when it would exceed `size` tokens (prompt tokens counted).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from dante.errors import DanteError

UNITS = ("records", "packs", "tokens")
# Passes of the search for the number of draws that fills the steps exactly; it converges in three or four.
MAX_SEARCH = 12
# The last step of a search may run out of draws when it holds at least this share of a step's tokens.
NEARLY_FULL = 0.8


@dataclass(frozen=True)
class Plan:
    """What every optimizer step of a fit shows: arrays only.

    Attributes:
        rows: record row of every draw, step after step.
        pack: pack of every draw, counted from 0 in each step.
        first_draw: draws of step k are `first_draw[k]` to `first_draw[k + 1]`.
        packs: packs per step.
        tokens: tokens per step, prompts counted.
        supervised_tokens: supervised tokens per step.
        lengths: tokens per record row.
        max_tokens: longest pack.
    """

    rows: Int64[np.ndarray, " draws"]
    pack: Int64[np.ndarray, " draws"]
    first_draw: Int64[np.ndarray, " steps_and_end"]
    packs: Int64[np.ndarray, " steps"]
    tokens: Int64[np.ndarray, " steps"]
    supervised_tokens: Int64[np.ndarray, " steps"]
    lengths: Int64[np.ndarray, " records"]
    max_tokens: int

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return len(self.packs)

    @property
    def records(self) -> Int64[np.ndarray, " steps"]:
        """Records per step."""
        return np.diff(self.first_draw)

    @property
    def fill(self) -> Float[np.ndarray, " steps"]:
        """Share of each step's packs that holds tokens."""
        return self.tokens / (self.packs * self.max_tokens)

    def summary(self) -> dict[str, float | int]:
        """Totals and rates of the whole fit, for plans and logs."""
        return {
            "steps": self.steps,
            "records": len(self.rows),
            "distinct_records": len(np.unique(self.rows)),
            "packs": int(self.packs.sum()),
            "tokens": int(self.tokens.sum()),
            "supervised_tokens": int(self.supervised_tokens.sum()),
            "fill": float(self.tokens.sum() / max(1, self.packs.sum() * self.max_tokens)),
        }

    def step_packs(self, step: int) -> list[list[int]]:
        """Record rows of each pack of a step."""
        draws = slice(int(self.first_draw[step]), int(self.first_draw[step + 1]))
        packs: list[list[int]] = [[] for _ in range(int(self.packs[step]))]
        for row, pack in zip(self.rows[draws].tolist(), self.pack[draws].tolist(), strict=True):
            packs[pack].append(row)
        return packs

    def micro_batches(self, step: int, rank: int, world_size: int, accumulate: int | None) -> list[list[int]]:
        """Record rows of each micro-batch of one rank; the same number of micro-batches on every rank.

        Args:
            step: optimizer step.
            rank: which rank.
            world_size: number of data-parallel ranks.
            accumulate: None: a micro-batch per pack; n: the rank's packs joined into at most n micro-batches.

        Returns:
            rows per micro-batch; an empty list where this rank has less to do than another.
        """
        packs = self.step_packs(step)
        loads = [int(self.lengths[pack].sum()) for pack in packs]
        ranks = balance(loads, world_size)
        count = max(len(rank_packs) for rank_packs in ranks)
        rank_packs = ranks[rank]
        if accumulate is not None:
            count = min(count, accumulate)
            groups = balance([loads[pack] for pack in rank_packs], count)
            return [[row for pack in group for row in packs[rank_packs[pack]]] for group in groups]
        return [packs[pack] for pack in rank_packs] + [[] for _ in range(count - len(rank_packs))]


def balance(loads: list[int], bins: int) -> list[list[int]]:
    """Divides items among bins: at most ⌈items/bins⌉ each, loads as even as longest-first greedy makes them.

    Returns:
        ascending item indices of each bin.
    """
    most = -(-len(loads) // bins)
    chosen: list[list[int]] = [[] for _ in range(bins)]
    total = [0] * bins
    for item in sorted(range(len(loads)), key=lambda item: (-loads[item], item)):
        target = min((b for b in range(bins) if len(chosen[b]) < most), key=lambda b: (total[b], len(chosen[b]), b))
        chosen[target].append(item)
        total[target] += loads[item]
    return [sorted(items) for items in chosen]


def make_plan(
    lengths: Int64[np.ndarray, " records"],
    supervised: Int64[np.ndarray, " records"],
    order: Callable[[int], np.ndarray],
    *,
    steps: int,
    batch: Mapping[str, Any],
    max_tokens: int,
) -> Plan:
    """Plans all optimizer steps of a fit.

    A curriculum stretches over the draws it is told of, so their number has to be known before they are ordered. It is
    `steps × size` for records. For packs and tokens it is searched: the number is corrected until the steps use up what
    was ordered, up to the records of less than one step.

    Args:
        lengths: tokens per record.
        supervised: supervised tokens per record.
        order: given a number of draws, the record row of each (a curriculum with its entropies and seed).
        steps: optimizer steps.
        batch: `unit` (records, packs or tokens) and `size` of a step, all ranks together.
        max_tokens: longest pack.

    Raises:
        DanteError: an unknown unit, a step without room, or a record longer than a pack.
    """
    unit, size = batch["unit"], int(batch["size"])
    if unit not in UNITS:
        raise DanteError(f"unknown batch unit {unit!r}", where="fit.batch.unit", allowed=", ".join(UNITS))
    if steps < 1 or size < 1:
        raise DanteError(f"{steps} steps of {size} {unit}", where="fit.steps, fit.batch.size", allowed="1 or more")
    if len(lengths) == 0:
        raise DanteError("there is no record to train on", where="cache", fix="loosen the filters or raise max_tokens")
    longest = int(lengths.max())
    room = min(max_tokens, size) if unit == "tokens" else max_tokens
    if longest > room:
        key = "fit.max_tokens" if room == max_tokens else "fit.batch.size"
        raise DanteError(f"record row {int(lengths.argmax())} has {longest} tokens, the room is {room}", where=key)

    def fill(draws: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = order(draws)
        return (rows, *_first_fit(lengths[rows], steps, unit, size, max_tokens))

    if unit == "records":
        rows, pack, first_draw = fill(steps * size)
    else:
        rows, pack, first_draw = _search(fill, steps, size * (max_tokens if unit == "packs" else 1), lengths)
    used = int(first_draw[-1])
    rows, pack = rows[:used], pack[:used]
    starts = first_draw[:-1]
    return Plan(
        rows=rows,
        pack=pack,
        first_draw=first_draw,
        packs=np.maximum.reduceat(pack, starts) + 1,
        tokens=np.add.reduceat(lengths[rows], starts),
        supervised_tokens=np.add.reduceat(supervised[rows], starts),
        lengths=lengths,
        max_tokens=max_tokens,
    )


def _first_fit(
    lengths: np.ndarray, steps: int, unit: str, size: int, max_tokens: int
) -> tuple[Int64[np.ndarray, " draws"], Int64[np.ndarray, " steps_and_end"]]:
    """Pack of every draw, and where steps begin; fewer than `steps` steps when the draws run out."""
    pack = np.zeros(len(lengths), dtype=np.int64)
    first_draw = [0]
    room: list[int] = []
    records = tokens = 0
    most_packs = size if unit == "packs" else len(lengths)
    for draw, length in enumerate(lengths.tolist()):
        chosen = next((index for index, left in enumerate(room) if left >= length), len(room))
        full = {"records": records == size, "packs": chosen == most_packs, "tokens": tokens + length > size}[unit]
        if full:
            first_draw.append(draw)
            if len(first_draw) > steps:
                return pack, np.array(first_draw, dtype=np.int64)
            room, records, tokens, chosen = [], 0, 0, 0
        if chosen == len(room):
            room.append(max_tokens)
        room[chosen] -= length
        pack[draw] = chosen
        records, tokens = records + 1, tokens + length
    first_draw.append(len(lengths))
    return pack, np.array(first_draw, dtype=np.int64)


def _search(
    fill: Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]], steps: int, step_tokens: int, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """About the fewest draws that fill all steps: a secant step where it helps, else the middle of the bracket."""
    too_few, enough = steps - 1, None
    draws = max(steps, round(steps * step_tokens / float(lengths.mean())))
    for _ in range(MAX_SEARCH):
        rows, _, first_draw = filled = fill(draws)
        made, used = len(first_draw) - 1, int(first_draw[-1])
        last_tokens = int(lengths[rows[first_draw[-2] : used]].sum())
        if made < steps or (used == draws and last_tokens < NEARLY_FULL * step_tokens):
            too_few = max(too_few, draws)
            guess = draws + 1 + round(draws * (steps - made + 0.5) / made)
        else:
            enough = filled if enough is None or draws < len(enough[0]) else enough
            if draws - used <= max(1, used // steps):
                return filled
            guess = used
        if enough is None:
            draws = max(guess, too_few + 1)
        elif len(enough[0]) - too_few <= 1:
            return enough
        else:
            inside = too_few < guess < len(enough[0])
            draws = guess if inside else (too_few + len(enough[0])) // 2
    while enough is None:  # lengths too uneven for the search: take plenty, whatever is left over
        draws *= 2
        filled = fill(draws)
        enough = filled if len(filled[2]) - 1 == steps else None
    return enough
