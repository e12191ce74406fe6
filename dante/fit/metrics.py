"""`metrics.jsonl`: one JSON object per logged optimizer step; always written, mirrored to W&B where that is on."""

import json
import math
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from dante.fit.throughput import Clock, model_flops, peak_memory_gib
from dante.manifest import write_text


class MetricsFile:
    """An append-only JSONL file that can be cut back to a step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut_after(self, step: int) -> None:
        """Keep the lines of steps up to `step`: what a resumed fit is going to repeat must not stand twice."""
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n") or _step_of(line) > step:
                break
            kept.append(line)
        write_text(self.path, "".join(kept))

    def append(self, row: dict[str, Any]) -> None:
        """Write one line and hand it to the operating system at once; what JSON lacks (NaN, infinity) becomes null."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite, allow_nan=False) + "\n")

    def flush(self) -> None:
        """Have what was written on disk: a checkpoint must not outlive the lines before it."""
        if self.path.is_file():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())


def _step_of(line: str) -> float:
    """The step of a line; one that is damaged counts as later than any."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class Recorder(Callback):
    """After every logged step: join the module's metrics with speed and memory, write them, hand them to loggers.

    Args:
        file: where lines go.
        every_steps: log every so many optimizer steps, and the last one.
        steps: optimizer steps of the fit.
        body_parameters: parameters that every token goes through.
        head_parameters: parameters of the LM head.
        peak_flops: of all devices together, FLOP/s.
    """

    def __init__(
        self,
        file: MetricsFile,
        every_steps: int,
        steps: int,
        body_parameters: int,
        head_parameters: int,
        peak_flops: float,
    ) -> None:
        self.file = file
        self.every_steps = every_steps
        self.steps = steps
        self.steps_done = 0
        self.body_parameters = body_parameters
        self.head_parameters = head_parameters
        self.peak_flops = peak_flops
        self.clock = Clock()
        self.tokens = 0
        self.supervised_tokens = 0
        self.flops = 0.0
        self.row: dict[str, Any] = {}
        self._since_log: dict[str, float] = {"s": 0.0, "tokens": 0, "flops": 0.0}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        flops = model_flops(self.body_parameters, self.head_parameters, batch.tokens, batch.supervised_tokens)
        self.tokens += batch.tokens
        self.supervised_tokens += batch.supervised_tokens
        self.flops += flops
        window = self._since_log
        window["s"] += self.clock.lap()
        window["tokens"] += batch.tokens
        window["flops"] += flops
        self.steps_done = batch.step + 1
        if self.steps_done % self.every_steps and self.steps_done != self.steps:
            return
        self.row = {
            **pl_module.collect_metrics(),  # type: ignore[operator]
            "supervised_tokens": batch.supervised_tokens,
            "tokens_per_s": round(window["tokens"] / window["s"], 1),
            "mfu": round(window["flops"] / window["s"] / self.peak_flops, 4),
            "peak_mem_gib": round(peak_memory_gib(), 3),
        }
        self._since_log = {"s": 0.0, "tokens": 0, "flops": 0.0}
        if trainer.is_global_zero:
            self.file.append(self.row)
            for logger in trainer.loggers:
                logger.log_metrics({k: v for k, v in self.row.items() if k != "step"}, step=self.row["step"])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.is_global_zero:
            self.file.flush()

    def state_dict(self) -> dict[str, Any]:
        return {
            "elapsed_s": self.clock.elapsed_s,
            "tokens": self.tokens,
            "supervised_tokens": self.supervised_tokens,
            "flops": self.flops,
            "steps_done": self.steps_done,
            "row": self.row,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.clock.elapsed_s = state_dict["elapsed_s"]
        self.tokens = state_dict["tokens"]
        self.supervised_tokens = state_dict["supervised_tokens"]
        self.flops = state_dict["flops"]
        self.steps_done = state_dict["steps_done"]
        self.row = state_dict["row"]
