"""A rank that neither works nor dies: the others wait in a collective for it. After `trainer.timeout_s` they end.

Every rank notes what it does (one attribute per micro-batch, no cost); a thread of its own writes that once a second
into `<run>/.ranks/<start>/beats-<step>/beat-<rank>`. A rank that has made no progress for `timeout_s` reads all notes
twice, some seconds apart, and so finds the missing one, in this order: it writes no more (stopped, swapping, its
machine gone); it is behind the others (its loader hangs); its main thread is not in a collective while the others' are
(an endless loop). The first rank to know says so and leaves a verdict; the others follow it without a word.

A rank that has died is the business of `dante.fit.safety.lost_rank`.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from dante.errors import DanteError
from dante.fit.safety import lost_rank

BEAT_S = 1.0
LOOK_S = 3.0
_VERDICT = "verdict"
# Files and functions in which a main thread waits for other ranks: DDP's all-reduce runs inside the backward.
_WAITING = ("torch/distributed/", "_engine_run_backward")

Beats = Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True)
class Missing:
    """Which ranks the others wait for, and what is known of them."""

    ranks: tuple[int, ...]
    why: str


def find_missing(before: Beats, after: Beats, world_size: int) -> Missing | None:
    """The ranks to blame, from two readings of all notes; None where they tell nothing."""
    ranks = range(world_size)
    silent = tuple(r for r in ranks if r not in after or (r in before and before[r]["beat"] == after[r]["beat"]))
    if silent:
        return Missing(silent, "gives no sign of life: stopped, or its machine is gone or swapping")
    done = {rank: after[rank]["progress"] for rank in ranks}
    if min(done.values()) < max(done.values()):
        behind = tuple(r for r in ranks if done[r] == min(done.values()))
        return Missing(behind, "is behind the others")
    busy = tuple(r for r in ranks if not any(sign in after[r]["at"] for sign in _WAITING))
    if 0 < len(busy) < world_size:
        return Missing(busy, "is somewhere else while the others wait in a collective")
    return None


class Heartbeat(Callback):
    """Notes this rank's progress and watches for a standstill. On one process it does nothing.

    Args:
        folder: shared by all ranks of this start.
        timeout_s: how long nothing may happen: `trainer.timeout_s`. Compiling and checkpoints have to fit in.
    """

    def __init__(self, folder: Path, timeout_s: float) -> None:
        self.folder, self.timeout_s = folder, timeout_s
        self._progress, self._where, self._since = 0, "before step 1", time.monotonic()
        self._stop = threading.Event()
        self._hook: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size == 1:
            return
        self.rank, self.world_size = trainer.global_rank, trainer.world_size
        self._main = threading.get_ident()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._note(self._where)
        # Every micro-batch is progress: a step may be long, a standstill is not.
        network: Any = pl_module.network
        self._hook = network.register_forward_pre_hook(lambda *_: self._note(self._where))
        self._write(0)  # a rank that stops within its first second is known, too
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._note(f"in step {batch.step + 1}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._note(f"after step {batch.step + 1}")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._note(self._where)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching; the last note stays."""
        self._stop.set()
        if self._hook is not None:
            self._hook.remove()

    def _note(self, where: str) -> None:
        self._progress, self._where, self._since = self._progress + 1, where, time.monotonic()

    def _run(self) -> None:
        """The thread: a note a second, and a look around when nothing happens."""
        beat, look_s = 0, min(LOOK_S, self.timeout_s / 3)
        earlier: tuple[int, float, dict[int, Any]] | None = None
        while not self._stop.wait(BEAT_S):
            beat += 1
            self._write(beat)
            if (self.folder / _VERDICT).exists():
                lost_rank.end(None)
            progress, waited_s = self._progress, time.monotonic() - self._since
            if waited_s < self.timeout_s - look_s - BEAT_S:
                earlier = None
            elif earlier is None or earlier[0] != progress:
                earlier = (progress, time.monotonic(), self._read())
            elif time.monotonic() - earlier[1] >= look_s:
                self._end(find_missing(earlier[2], notes := self._read(), self.world_size), notes, waited_s)

    def _write(self, beat: int) -> None:
        frame = sys._current_frames().get(self._main)
        at = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}" if frame else ""
        note = {"beat": beat, "progress": self._progress, "where": self._where, "at": at,
                "pid": os.getpid(), "host": socket.gethostname()}  # fmt: skip
        try:
            (self.folder / f"beat-{self.rank}").write_text(json.dumps(note), encoding="utf-8")
        except OSError:  # a full disk is told by whoever writes something that matters
            return

    def _read(self) -> dict[int, Any]:
        notes = {}
        for rank in range(self.world_size):
            for _ in range(3):
                try:
                    notes[rank] = json.loads((self.folder / f"beat-{rank}").read_text(encoding="utf-8"))
                except OSError:
                    break
                except ValueError:  # read while it was being written
                    time.sleep(0.05)
                    continue
                break
        return notes

    def _end(self, missing: Missing | None, notes: Beats, waited_s: float) -> None:
        """Say what is known, once among all ranks, and end this process: its main thread cannot be woken."""
        try:
            with (self.folder / _VERDICT).open("x", encoding="utf-8") as file:
                message = str(_verdict(missing, notes, self.rank, self._where, waited_s, self.timeout_s))
                file.write(message)
        except FileExistsError:
            lost_rank.end(None)
        except OSError as error:
            message = f"rank {self.rank} waits for another one ({error})"
        lost_rank.end(message)


def _verdict(
    missing: Missing | None, notes: Beats, rank: int, where: str, waited_s: float, timeout_s: float
) -> DanteError:
    asked = f"trainer.timeout_s={timeout_s:g}"
    if missing is None:
        rank_states = "; ".join(
            f"rank {number} {note['where']}, {_place(note)}" for number, note in sorted(notes.items())
        )
        what = f"no rank has made progress for {waited_s:.0f} s, and none stands out ({rank_states})"
    else:
        number = missing.ranks[0]
        note = notes.get(number)
        named = f"rank {number}" if len(missing.ranks) == 1 else f"ranks {', '.join(map(str, missing.ranks))}"
        last = f"{note['where']}, {_place(note)}; process {note['pid']} on {note['host']}" if note else "never heard of"
        also = "" if rank in missing.ranks else f", while rank {rank} waits {where}"
        what = f"{named} hangs: no progress for {waited_s:.0f} s{also}. It {missing.why} (last: {last})"
    return DanteError(
        what,
        where=asked,
        fix="look at that process (py-spy dump --pid PID, dmesg for its machine); the same command continues after the "
        "last checkpoint; where a step or its compilation takes that long, raise trainer.timeout_s",
    )


def _place(note: Mapping[str, Any]) -> str:
    """`module.py:12 in f`: the end of a path says enough."""
    path, _, rest = note["at"].rpartition("/")
    return f"{path.rpartition('/')[2]}/{rest}" if path else note["at"] or "nowhere"
