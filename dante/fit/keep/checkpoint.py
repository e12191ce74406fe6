"""Resume state: written whole every few steps, found again after an interruption.

One checkpoint holds the student, the optimizer, the losses' buffers and the number of finished steps, so a resumed fit
continues the same loss curve, bit for bit on a CPU. Where it stands in the data follows from the step
(`dante.data.packing`), and so does dropout (`DistillModule`): there is no random state to restore, and no rank's own
state at all. Hence a fit may also go on with another number of devices: the same records, the same means, sums in
another order.

A checkpoint is written beside its final name, flushed and renamed; older ones are removed only then. A full one is a
file; a sharded one is a directory with a part per rank (torch's DCP) and a checksum per part. A full one may be written
in the background: training waits for a copy in host memory, not for the disk.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.utils._pytree import tree_map

from dante import console
from dante.system.files import flush, write_json
from dante.system.os_errors import free_bytes

# Free space below which the disk is to blame for a write that failed (what did not fit still lies there then).
NO_SPACE_BYTES = 4 * 2**20
_NAME = re.compile(r"^step-(\d+)\.ckpt$")
_SUMS = "sums-{rank}.json"
_CHUNK_BYTES = 16 * 2**20


def latest(directory: Path) -> tuple[Path, int] | None:
    """The newest complete checkpoint and its step, or None. One that is damaged is passed over, and said so."""
    for step, path in reversed(_found(directory)):
        if _intact(path):
            return path, step
        console.note(f"{path.name} is damaged and is not used")
    return None


def _found(directory: Path) -> list[tuple[int, Path]]:
    """Steps and paths, oldest first."""
    return sorted((int(m.group(1)), p) for p in directory.glob("step-*.ckpt") if (m := _NAME.match(p.name)))


def _intact(path: Path) -> bool:
    """Whether a checkpoint can be read whole: a file's entries and a directory's files have checksums."""
    if path.is_dir():
        return _intact_shards(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, FileNotFoundError):
        return False


def _intact_shards(path: Path) -> bool:
    try:
        ranks = json.loads((path / _SUMS.format(rank=0)).read_text(encoding="utf-8"))["ranks"]
        for rank in range(ranks):
            sums = json.loads((path / _SUMS.format(rank=rank)).read_text(encoding="utf-8"))["files"]
            if any(_crc(path / name) != crc for name, crc in sums.items()):
                return False
    except (OSError, ValueError, KeyError):
        return False
    return True


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc


class Checkpoints(Callback):
    """Write `step-000050.ckpt` every `every_steps` optimizer steps.

    Args:
        directory: where they go.
        every_steps: optimizer steps between two.
        keep: how many of the newest stay, or `all`; at least one while the fit runs.
        sharded: whether the strategy writes a directory with a part per rank.
        io: how the trainer writes a full one.
    """

    def __init__(
        self,
        directory: Path,
        every_steps: int,
        keep: int | Literal["all"],
        sharded: bool,
        io: "StreamingCheckpointIO",
    ) -> None:
        self.directory = directory
        self.every_steps = every_steps
        self.keep = keep
        self.sharded = sharded
        self.io = io
        self.saved = 0

    @property
    def newest(self) -> Path:
        """The checkpoint that was written last."""
        return self.directory / f"step-{self.saved:06d}.ckpt"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = batch.step + 1
        if done % self.every_steps == 0:
            self.save(trainer, done)

    def save(self, trainer: Trainer, done: int) -> None:
        """Write the state after `done` optimizer steps and remove what `keep` does not cover. A collective."""
        final = self.directory / f"step-{done:06d}.ckpt"
        temporary = final.with_suffix(".writing")
        self.io.wait()
        if trainer.is_global_zero:
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in self.directory.glob("*.writing"):  # of a killed process: it may be what fills the disk
                _remove(path)
        trainer.strategy.barrier("cleared")
        self.io.then = lambda: self._publish(temporary, final)
        try:
            trainer.save_checkpoint(temporary)  # every rank calls it; rank 0 writes, or each its part
            if self.sharded:
                _seal(temporary, trainer.global_rank, trainer.world_size)
                trainer.strategy.barrier("sealed")
                if trainer.is_global_zero:
                    self._publish(temporary, final)
        except BaseException:
            if trainer.is_global_zero:
                _remove(temporary)
            raise
        self.saved = done

    def _publish(self, temporary: Path, final: Path) -> None:
        """Give a whole checkpoint its name, and remove what `keep` does not cover."""
        if final.exists():  # written by an attempt that went on differently
            _remove(final)
        temporary.replace(final)
        if self.keep != "all":
            for _, path in _found(self.directory)[: -max(1, self.keep)]:
                _remove(path)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.io.wait()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        with contextlib.suppress(OSError):  # one error is being told already
            self.io.wait()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # The data plan owns the position: the loader yields the remaining steps alone. Lightning's own loop counters
        # would count the finished steps against them once more and end the fit early.
        checkpoint.pop("loops", None)


def _seal(directory: Path, rank: int, ranks: int) -> None:
    """Flush the files that this rank wrote, and note their checksums."""
    rank_files = sorted(directory.glob(f"__{rank}_*"))
    if rank == 0:
        rank_files += [
            path for path in directory.iterdir() if not path.name.startswith("__") and "sums-" not in path.name
        ]
    for path in rank_files:
        flush(path)
    write_json(
        directory / _SUMS.format(rank=rank), {"ranks": ranks, "files": {path.name: _crc(path) for path in rank_files}}
    )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class StreamingCheckpointIO(TorchCheckpointIO):
    """Write straight to the file: Lightning's own buffers the whole checkpoint in memory, twice, before it writes.

    Args:
        background: copy the state to host memory, and write that while training goes on.
    """

    def __init__(self, background: bool) -> None:
        super().__init__()
        #: Called when a checkpoint is whole and flushed.
        self.then: Callable[[], None] = lambda: None
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint") if background else None
        self._writing: Future[None] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write one checkpoint, or begin to.

        Raises:
            OSError: it could not be written (in the background: told by `wait`).
        """
        if self._pool is None:
            self._write(checkpoint, Path(path), self.then)
        else:
            self.wait()
            self._writing = self._pool.submit(self._write, _copied(checkpoint), Path(path), self.then)

    def wait(self) -> None:
        """Until what is being written is there.

        Raises:
            OSError: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    @staticmethod
    def _write(checkpoint: dict[str, Any], path: Path, then: Callable[[], None]) -> None:
        try:
            torch.save(checkpoint, path)
            flush(path)
            then()
        except RuntimeError as error:  # torch's own writer, which does not say why
            _remove(path)
            free = free_bytes(path)
            full = free is not None and free < NO_SPACE_BYTES
            code = errno.ENOSPC if full else errno.EIO
            raise OSError(code, f"{os.strerror(code)} ({error})", str(path)) from error
        except BaseException:
            _remove(path)
            raise


def _copied(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A copy that further training does not change; tensors in host memory."""
    return tree_map(lambda leaf: leaf.detach().to("cpu", copy=True) if isinstance(leaf, Tensor) else leaf, checkpoint)
