"""Loss spikes: a step whose loss stands far above what the last ones were, told once and written down with its records.

A logged loss x is a spike when x > median + d · max(1.4826 · MAD, 0.001 · |median|) over the last `window` logged
losses (median and median absolute deviation; 1.4826 · MAD estimates the standard deviation of a normal law) [I]. The
median bears up to half the window of outliers, so spikes need not be kept out of it, and a level that stays becomes the
new normal after half a window. Until half a window is filled nothing is a spike. A loss that is not finite is none
either: the module skips such steps and counts them.

Consecutive spikes are one: the console is told at the first. `spikes.jsonl` holds every one with its records' ids.
"""

import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dante import console
from dante.data.table import names_of

if TYPE_CHECKING:
    from dante.data.datamodule import DistillData
    from dante.fit.record.metrics_file import MetricsFile

_NORMAL = 1.4826
_FLOOR = 1e-3
_MOST_IDS_SHOWN = 3


def threshold(losses: Sequence[float], deviations: float | int) -> float:
    """The loss above which a step is a spike, given the last ones; infinity of none."""
    if not losses:
        return math.inf
    middle = statistics.median(losses)
    spread = _NORMAL * statistics.median([abs(loss - middle) for loss in losses])
    return middle + deviations * max(spread, _FLOOR * abs(middle))


class SpikeWatch:
    """Sees the loss of every logged step.

    Args:
        file: `spikes.jsonl`.
        window: logged steps that a loss is compared with.
        deviations: how far above them it has to stand.
        records_of: ids of all records of an optimizer step, over all ranks, by the step's batch.
    """

    def __init__(
        self, file: "MetricsFile", window: int, deviations: float | int, records_of: Callable[[Any], Sequence[str]]
    ) -> None:
        self.file, self.deviations, self.records_of = file, deviations, records_of
        self.losses: deque[float] = deque(maxlen=window)
        self.count = 0
        self._inside = False

    def observe(self, row: Mapping[str, Any], batch: Any, *, write: bool) -> bool:
        """Whether this step's loss is a spike; with `write` it is told and written down, too."""
        loss, limit = float(row["loss"]), threshold(self.losses, self.deviations)
        if not math.isfinite(loss):
            return False
        spike = 2 * len(self.losses) >= (self.losses.maxlen or 0) and loss > limit
        if spike and write:
            self._write(row, batch, limit)
        self.count += spike and not self._inside
        self._inside = spike
        self.losses.append(loss)
        return spike

    def _write(self, row: Mapping[str, Any], batch: Any, limit: float) -> None:
        records, usual = list(self.records_of(batch)), statistics.median(self.losses)
        facts = {"step": row["step"], "loss": row["loss"], "median": usual, "limit": limit, "records": records}
        self.file.append(facts)
        if self._inside:
            return
        shown = ", ".join(records[:_MOST_IDS_SHOWN])
        more = f" and {len(records) - _MOST_IDS_SHOWN} more" if len(records) > _MOST_IDS_SHOWN else ""
        console.note(
            f"loss spike at step {row['step']}: {row['loss']:.4g}, usual {usual:.4g}; records {shown}{more} "
            f"→ {console.short(self.file.path)}"
        )

    def cut_after(self, step: int) -> None:
        """Forget what a resumed fit is going to repeat."""
        self.file.cut_after(step)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": list(self.losses), "count": self.count, "inside": self._inside}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses.clear()
        self.losses.extend(state["losses"])
        self.count, self._inside = state["count"], state["inside"]


def records_of_step(data: "DistillData") -> Callable[[Any], list[str]]:
    """Ids of all records of a batch's optimizer step on all ranks; the plan knows them without a collective."""

    def ids(batch: Any) -> list[str]:
        assert data.plan is not None
        rows = [row for pack in data.plan.step_packs(batch.step) for row in pack]
        return names_of(data.table, data.rows[rows].tolist())

    return ids
