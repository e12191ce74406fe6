"""Resume state: written whole every few steps, found again after an interruption.

One checkpoint holds the student, the optimizer, the losses' buffers, the position in the data plan and the random
state, so a resumed fit continues the same loss curve, bit for bit on one CPU process. A checkpoint is written beside
its final name, flushed and renamed; the one before it is removed only then.
"""

import os
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

_NAME = re.compile(r"^step-(\d+)\.ckpt$")


def latest(directory: Path) -> tuple[Path, int] | None:
    """The newest complete checkpoint and its step, or None."""
    found = [(int(m.group(1)), p) for p in directory.glob("step-*.ckpt") if (m := _NAME.match(p.name))]
    if not found:
        return None
    step, path = max(found)
    return path, step


class Checkpoints(Callback):
    """Write `step-000050.ckpt` every `every_steps` optimizer steps; keep the newest."""

    def __init__(self, directory: Path, every_steps: int) -> None:
        self.directory = directory
        self.every_steps = every_steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = batch.step + 1
        if done % self.every_steps == 0:
            self.save(trainer, done)

    def save(self, trainer: Trainer, done: int) -> None:
        """Write the state after `done` optimizer steps and remove older ones."""
        self.directory.mkdir(parents=True, exist_ok=True)
        final = self.directory / f"step-{done:06d}.ckpt"
        temporary = final.with_suffix(".writing")
        trainer.save_checkpoint(temporary)  # a collective: every rank calls it, rank 0 writes
        if trainer.is_global_zero:
            _flush(temporary)
            temporary.replace(final)
            for old in self.directory.glob("step-*.ckpt"):
                if old != final:
                    old.unlink()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["random_state"] = _random_state()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        _restore_random_state(checkpoint["random_state"])
        # The data plan owns the position: the loader yields the remaining steps alone. Lightning's own loop counters
        # would count the finished steps against them once more and end the fit early.
        checkpoint.pop("loops", None)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _random_state() -> dict[str, Any]:
    """Python's, numpy's and torch's generators, as plain containers and tensors (loadable with weights_only)."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": {"version": version, "internal": list(internal), "gauss": gauss},
        "numpy": {
            "name": str(name),
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_state(state: dict[str, Any]) -> None:
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["internal"]), python["gauss"]))
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["cached"]))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])


class StreamingCheckpointIO(TorchCheckpointIO):
    """Write straight to the file: Lightning's own buffers the whole checkpoint in memory, twice, before it writes."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        torch.save(checkpoint, path)
