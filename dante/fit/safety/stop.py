"""Stopping a fit between two optimizer steps, on all ranks after the same one.

Lightning's own handling is switched off: it broadcasts inside a signal handler and once more before every batch,
listens to rank 0 only, writes no checkpoint of ours, and turns Ctrl-C into exit code 1. Here a signal is noted
(`dante.system.interrupt`), travels with the sum over ranks that every optimizer step makes anyway
(`dante.fit.readback`), and all ranks act on it after the same step.
"""

import time
from contextlib import ExitStack
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from dante.fit.keep.checkpoint import Checkpoints, latest
from dante.system import interrupt
from dante.system.interrupt import Interrupted


class StopBetweenSteps(Callback):
    """When any rank was asked to stop: write a checkpoint, then raise `Interrupted` on all of them.

    Args:
        checkpoints: of the fit.
        steps: optimizer steps of the whole fit.
    """

    def __init__(self, checkpoints: Checkpoints, steps: int) -> None:
        self.checkpoints, self.steps = checkpoints, steps
        self._loop = ExitStack()
        self._step, self._began_s, self._last_s = 0, time.monotonic(), 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._loop.enter_context(interrupt.deferred(self.waiting))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._step, self._began_s = batch.step + 1, time.monotonic()

    def waiting(self) -> str:
        """What a signal that comes now waits for."""
        last = f", the last one took {self._last_s:.0f} s" if self._last_s else ""
        kept = latest(self.checkpoints.directory)
        place = f"after step {kept[1]}" if kept else "from the fit's beginning"
        running_s = time.monotonic() - self._began_s
        return (
            f"stopping after step {self._step} of {self.steps}, which has run for {running_s:.0f} s{last}, and a "
            f"checkpoint; once more, and it ends at once: the same command then continues {place}"
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._last_s = time.monotonic() - self._began_s
        asked: int = pl_module.stop_signal  # type: ignore[assignment]
        if not asked:
            return
        done = batch.step + 1
        if self.checkpoints.saved != done:
            self.checkpoints.save(trainer, done)
        self.checkpoints.io.wait()
        trainer.strategy.barrier("stopped")  # no rank leaves before the checkpoint has its name
        raise Interrupted(asked, f"after step {done}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._loop.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._loop.close()


def leave_signals_alone(trainer: Trainer) -> None:
    """Switch Lightning's signal handling off; its parts have no public names."""
    for owner, name in (
        (trainer._signal_connector, "register_signal_handlers"),
        (trainer.fit_loop.epoch_loop, "_broadcast_sigterm_tensor"),
    ):
        getattr(owner, name)  # a new name in a new version must not pass unnoticed
        setattr(owner, name, _nothing)


def _nothing(*arguments: Any) -> None:
    return None
