"""`metrics.jsonl`: one JSON object per logged optimizer step; always written, mirrored to W&B where that is on."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from dante.fit.record.accounting import Accounting
from dante.fit.record.metrics_file import MetricsFile
from dante.fit.record.spikes import SpikeWatch


class Recorder(Callback):
    """After every logged step: join the module's metrics with speed, memory and spikes, write them, hand them on.

    It stands first in the list of callbacks; a `lap` behind another one measures what that one takes.

    Args:
        file: where lines go.
        every_steps: log every so many optimizer steps, and the last one.
        steps: optimizer steps of the fit.
        accounting: what the fit costs.
        spikes: the watch over the loss, or None.
    """

    def __init__(
        self, file: MetricsFile, every_steps: int, steps: int, accounting: Accounting, spikes: SpikeWatch | None = None
    ) -> None:
        self.file = file
        self.every_steps = every_steps
        self.steps = steps
        self.steps_done = 0
        self.accounting = accounting
        self.spikes = spikes
        self.row: dict[str, Any] = {}

    def lap(self, name: str) -> Callback:
        """A callback that gives the time since the callback before it to `name`."""
        return _Lap(self.accounting, name)

    def cut_after(self, step: int) -> None:
        """Forget the lines of steps that a resumed fit is going to repeat."""
        self.file.cut_after(step)
        if self.spikes is not None:
            self.spikes.cut_after(step)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.accounting.begin(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.accounting.step_begins()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.accounting.count(batch)
        self.steps_done = batch.step + 1
        if self.steps_done % self.every_steps and self.steps_done != self.steps:
            self.accounting.laps.lap("step")
            return
        metrics = pl_module.collect_metrics()  # type: ignore[operator]  # waits for the device: the step ends here
        self.accounting.laps.lap("step")
        self.row = {**metrics, "supervised_tokens": batch.supervised_tokens, **self.accounting.row(trainer)}
        if self.spikes is not None and self.spikes.observe(self.row, batch, write=trainer.is_global_zero):
            self.row["spike"] = True
        if trainer.is_global_zero:
            self.file.append(self.row)
            for logger in trainer.loggers:
                logger.log_metrics({k: v for k, v in self.row.items() if k != "step"}, step=self.row["step"])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.is_global_zero:
            self.file.flush()

    def state_dict(self) -> dict[str, Any]:
        return {
            "accounting": self.accounting.state_dict(),
            "spikes": self.spikes.state_dict() if self.spikes is not None else None,
            "steps_done": self.steps_done,
            "row": self.row,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.accounting.load_state_dict(state_dict["accounting"])
        if self.spikes is not None and state_dict["spikes"] is not None:
            self.spikes.load_state_dict(state_dict["spikes"])
        self.steps_done = state_dict["steps_done"]
        self.row = state_dict["row"]


class _Lap(Callback):
    def __init__(self, accounting: Accounting, name: str) -> None:
        self.accounting, self.name = accounting, name

    @property
    def state_key(self) -> str:
        return f"{type(self).__name__}:{self.name}"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.accounting.laps.lap(self.name)
