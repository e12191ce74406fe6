"""What one training system of `training.py` is asked to do, and how its work is divided into turns.

A turn (a block) is one pass over the same records for every system, in its own order and packing. The learning rate
is so small that no weight moves: the mean loss of every block must then be the same number in all systems, which shows
that they train on the same tokens, with the same mask, in the same precision. AdamW does not get faster by it.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import Others, peak_resident_bytes, release_memory, reset_peak, resident_bytes
from turns import Table

LEARNING_RATE = 1e-12


@dataclass(frozen=True)
class Job:
    """The same for all systems.

    Attributes:
        model: folder of the model that is trained.
        cache: cache directory whose records make one block.
        out: folder for whatever a system writes.
        records: records of a block.
        blocks: blocks in all, the first one a warm-up.
        rows: records of an optimizer step where a system counts records.
        max_tokens: longest pack, and where peers cut.
        threads: of each process.
        precision: of matrix products, `bf16` (autocast) or `fp32`.
        overrides: of our composed config.
        distillation: folder of what distils: kept logits in `kept`, teacher steps in `1x`, …; None: nothing does.
    """

    model: str
    cache: str
    out: str
    records: int
    blocks: int
    rows: int
    max_tokens: int
    threads: int
    precision: str
    overrides: tuple[str, ...]
    distillation: str | None = None

    def write(self, path: Path) -> None:
        """For `read`."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "Job":
        """What `write` wrote."""
        values = json.loads(path.read_text())
        return cls(**{**values, "overrides": tuple(values["overrides"])})


class Pace:
    """Counts and times one system's blocks, and waits for its turn between them.

    Made when everything is imported and nothing is loaded: what is resident then is the baseline of its memory.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.baseline_bytes = resident_bytes()
        self.parameters = 0
        self._measured: dict[str, Any] = {}
        self._clear()

    def _clear(self) -> None:
        self.steps = self.tokens = self.supervised_tokens = self.positions = 0
        self.loss_sums: list[torch.Tensor] = []

    def begin(self) -> None:
        """Wait for the turn, after having said what the one before measured; the clock starts when it comes."""
        if self._measured:
            self.table.say(**self._measured)
        else:
            self.table.say(ready=True, baseline_bytes=self.baseline_bytes, parameters=self.parameters)
        self.table.wait()
        self._clear()
        reset_peak()
        self._others = Others()
        self._start, self._start_processor = time.perf_counter(), time.process_time()

    def step(self, tokens: int, supervised_tokens: int, positions: int, loss_sum: torch.Tensor) -> None:
        """One forward and backward: tokens of records, those with a loss, what the backbone ran on, Σ loss in nats."""
        self.tokens += tokens
        self.supervised_tokens += supervised_tokens
        self.positions += positions
        self.loss_sums.append(loss_sum.detach())

    def end(self, steps: int) -> None:
        """The block's `steps` optimizer steps are done: the clock stops."""
        seconds, processor_s = time.perf_counter() - self._start, time.process_time() - self._start_processor
        self._measured = {
            "seconds": seconds,
            "processor_s": processor_s,
            "steps": steps,
            "tokens": self.tokens,
            "supervised_tokens": self.supervised_tokens,
            "positions": self.positions,
            "others_cores": self._others.cores(),
            "peak_bytes": peak_resident_bytes(),
            "loss_nats": float(torch.stack(self.loss_sums).sum()) / max(self.supervised_tokens, 1),
        }
        release_memory()

    def finish(self) -> None:
        """Say what the last block measured."""
        self.table.say(**self._measured)
