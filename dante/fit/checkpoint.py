"""Resume state: written whole every few steps, found again after an interruption.

One checkpoint holds the student, the optimizer, the losses' buffers, the position in the data plan and the random
state, so a resumed fit continues the same loss curve, bit for bit on one CPU process. A checkpoint is written beside
its final name, flushed and renamed; the one before it is removed only then.
"""

import errno
import os
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO

from dante import console
from dante.io_errors import free_bytes
from dante.manifest import flush

# Free space below which the disk is to blame for a write that failed (what did not fit still lies there then).
NO_SPACE_BYTES = 4 * 2**20
_NAME = re.compile(r"^step-(\d+)\.ckpt$")


def latest(directory: Path) -> tuple[Path, int] | None:
    """The newest complete checkpoint and its step, or None. One that is damaged is passed over, and said so."""
    found = [(int(m.group(1)), p) for p in directory.glob("step-*.ckpt") if (m := _NAME.match(p.name))]
    for step, path in sorted(found, reverse=True):
        if _intact(path):
            return path, step
        console.note(f"{path.name} is damaged and is not used")
    return None


def _intact(path: Path) -> bool:
    """Whether a checkpoint (a zip archive, as torch writes it) can be read whole: every entry has a checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, FileNotFoundError):
        return False


class Checkpoints(Callback):
    """Write `step-000050.ckpt` every `every_steps` optimizer steps; keep the newest."""

    def __init__(self, directory: Path, every_steps: int) -> None:
        self.directory = directory
        self.every_steps = every_steps
        self.saved = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = batch.step + 1
        if done % self.every_steps == 0:
            self.save(trainer, done)

    def save(self, trainer: Trainer, done: int) -> None:
        """Write the state after `done` optimizer steps and remove older ones."""
        final = self.directory / f"step-{done:06d}.ckpt"
        temporary = final.with_suffix(".writing")
        if trainer.is_global_zero:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._remove("*.writing")  # of a killed process: it may be what fills the disk
        try:
            trainer.save_checkpoint(temporary)  # a collective: every rank calls it, rank 0 writes
            if trainer.is_global_zero:
                flush(temporary)
                temporary.replace(final)
        except BaseException:
            if trainer.is_global_zero:
                temporary.unlink(missing_ok=True)
            raise
        if trainer.is_global_zero:
            self._remove("step-*.ckpt", but=final)
        self.saved = done

    def _remove(self, pattern: str, but: Path | None = None) -> None:
        for path in self.directory.glob(pattern):
            if path != but:
                path.unlink()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["random_state"] = _random_state()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        _restore_random_state(checkpoint["random_state"])
        # The data plan owns the position: the loader yields the remaining steps alone. Lightning's own loop counters
        # would count the finished steps against them once more and end the fit early.
        checkpoint.pop("loops", None)


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
        """Write one checkpoint.

        Raises:
            OSError: it could not be written. torch's own writer raises a RuntimeError that does not say why.
        """
        try:
            torch.save(checkpoint, path)
        except RuntimeError as error:
            free = free_bytes(Path(path))
            full = free is not None and free < NO_SPACE_BYTES
            code = errno.ENOSPC if full else errno.EIO
            raise OSError(code, f"{os.strerror(code)} ({error})", str(path)) from error
