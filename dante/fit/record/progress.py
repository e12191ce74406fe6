"""The progress bar and the step line of a fit, on rank 0: percent, loss, tokens/s, MFU, time left."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dante import console
from dante.fit.record.metrics import Recorder

# Share of the time without a batch above which it is said.
_TOLD_WAIT = 0.02


class ProgressLine(Callback):
    """A live bar on a terminal; elsewhere (a log file) a line every `every_s` seconds."""

    def __init__(self, recorder: Recorder, steps: int, every_s: float = 15.0) -> None:
        self.recorder = recorder
        self.steps = steps
        self.every_s = every_s
        self._bar: Progress | None = None
        self._task: Any = None
        self._last_line = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and console.is_terminal():
            self._bar = Progress(
                TextColumn("  fit"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[facts]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console.screen(),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("fit", total=self.steps, facts="")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_global_zero or not self.recorder.row:
            return
        done, facts = batch.step + 1, self._facts(self.recorder.row)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, facts=facts)
        if time.monotonic() - self._last_line > self.every_s or done == self.steps:
            self._last_line = time.monotonic()
            console.info(f"  step {done:>{len(str(self.steps))}}/{self.steps} {done / self.steps:4.0%}  {facts}")

    @staticmethod
    def _facts(row: dict[str, Any]) -> str:
        spike = "  spike" if row.get("spike") else ""
        mfu = f"mfu {row['mfu']:.0%}" if row["mfu"] is not None else "mfu –"
        wait = f"  data wait {row['data_wait_share']:.0%}" if row["data_wait_share"] > _TOLD_WAIT else ""
        return (
            f"loss {row['loss']:.4f}{spike}  lr {row['lr']:.2e}  {row['tokens_per_s']:,.0f} tok/s "
            f"({row['supervised_tokens_per_s']:,.0f} supervised)  {mfu}  "
            f"{row['peak_mem_gib']:.1f} GiB{wait}"
        )

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()
