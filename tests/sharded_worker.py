"""What every process of `test_sharded.py` runs: the same twenty steps under several strategies, one after the other.

torchrun --nproc-per-node=2 tests/sharded_worker.py OUT SCENARIO …
"""

import json
import os
import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback
from torch.utils.data import DataLoader, Dataset

from dante.data.batch import StepBatch
from dante.fit.keep import weights
from dante.fit.keep.checkpoint import Checkpoints, StreamingCheckpointIO, latest
from dante.fit.strategy import build_strategy
from dante.losses.blocks.nmse import NormalisedError
from dante.losses.ce import CE
from dante.losses.distillation.divergences import JSD
from dante.losses.distillation.logits import LogitDistillation
from dante.losses.dual_penalty.penalty import DualPenalty
from dante.losses.multiplier import NuPI
from dante.losses.schedule import Constant, HoldThenRamp
from dante.supervision.blocks import BlocksBeside
from dante.supervision.live import BesideStudent
from tests.test_block_pass import energies, student_of
from tests.test_live_teacher import teacher
from tests.test_module import Collect, bare_trainer, cwce, empty_row, module, row, step_batch, student, tea, token_ids
from tests.tiny_mixtures import tiny_mixture

STEPS = 20
# Eight rows of the five records of test_module, two ranks, four rows each; the last one has nothing on one rank.
ROWS = [[0], [1], [2, 4], [3], [4], [0, 1], [2]]
JOINED = [[0, 2, 4, 4, 2], [1, 3, 0, 1]]
OPTIONS = ("signal", "precision", "dropout", "gradient_sync", "gradient_checkpointing", "tied", "live", "blocks")
TRAINER = {"accelerator": "cpu", "num_nodes": 1, "shard_size": None, "checkpoints": "sharded", "timeout_s": 60}


class Steps(Dataset):
    """Steps `first` to the last, as one rank sees them; joined: all of its records in one row."""

    def __init__(self, rank: int, world_size: int, joined: bool, first: int = 0) -> None:
        self.rank, self.world_size, self.joined, self.first = rank, world_size, joined, first

    def __len__(self) -> int:
        return STEPS - self.first

    def __getitem__(self, index: int) -> StepBatch:
        if index >= len(self):
            raise IndexError
        step = self.first + index
        whole = step_batch(ROWS, step, seed=step % 4)
        ids = token_ids(step % 4)
        if self.joined and self.world_size == 2:
            rows = [row(JOINED[self.rank], ids)]
        elif self.joined:
            rows = [row(JOINED[0] + JOINED[1], ids)]
        else:
            rows = [whole.micro_batches[i] for i in range(self.rank, len(ROWS), self.world_size)]
            rows += [empty_row()] * (-(-len(ROWS) // self.world_size) - len(rows))
        return StepBatch(rows, whole.tokens, whole.supervised_tokens, whole.records, step)


class StopAfter(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch.step + 1 == self.step:
            trainer.should_stop = True


def dual(signal):
    """A constraint that is measured in steps 4 to 9 and violated afterwards."""
    multiplier = NuPI(k_i=20.0, k_p=2.0, nu=0.5, maximum=10.0)
    # A tiny student is undecided everywhere: the predictive threshold is given, the others are measured.
    options = {"threshold": 0.9 if signal == "predictive" else None, "difficult": 0.5, "augmentation": 0.5}
    options |= {"measure_from": 0.2, "measure_until": 0.5}
    bound = HoldThenRamp(1.0, 0.1, 0.5)
    return DualPenalty(Constant(1.0), signal, "label_probability", bound=bound, multiplier=multiplier, **options)


def trained(
    dtype=torch.float32, precision="fp32", dropout=None, tied=True, signal=None, live=None, blocks=None, **options
):
    """A tiny student whose clip is active in every step, with CWCE and TEA, with CE and a dual penalty, with a live
    teacher, or the units of one beside a mixture; `sharded` or `whole` where the student is sharded."""
    if blocks is not None:
        options["blocks"] = BlocksBeside(tiny_mixture("glm4_moe"), energies("glm4_moe"), spread=blocks == "sharded")
        losses = {"match": NormalisedError(Constant(1.0))}
        return module(student_of("glm4_moe"), losses, precision=precision, clip=0.5, steps=STEPS, lr=3e-3, **options)
    model = student(dtype, tied)
    constrained = {"ce": CE(Constant(1.0)), "dual": dual(signal or "predictive")}
    losses = {"cwce": cwce("records"), "tea": tea()} if signal is None else constrained
    if live is not None:
        losses = {"kl": LogitDistillation(Constant(20.0), JSD(0.3), 2.0)}
        options["teacher"] = BesideStudent(teacher(dtype), spread=live == "sharded")
    return module(
        model, losses, precision=precision, clip=0.5, steps=STEPS, lr=3e-3, attention_dropout=dropout, **options
    )


def train(
    network,
    strategy,
    out: Path | None,
    rank=0,
    world_size=1,
    joined=False,
    first=0,
    stop_after=None,
    checkpoint=None,
    every=STEPS,
    background=False,
):
    """Returns the rows of metrics, and the trainer."""
    collect = Collect()
    sharded = getattr(strategy, "_save_distributed_checkpoint", False)
    callbacks: list[Callback] = [collect]
    io = StreamingCheckpointIO(background=background)
    if out is not None:
        callbacks.append(Checkpoints(out, every, "all", sharded, io))
    if stop_after is not None:
        callbacks.append(StopAfter(stop_after))
    trainer = bare_trainer(callbacks, devices=world_size, strategy=strategy, precision="32-true", plugins=[io])
    loader = DataLoader(Steps(rank, world_size, joined, first), batch_size=None)
    trainer.fit(network, loader, ckpt_path=checkpoint, weights_only=True)
    return collect.rows, trainer


def written(rows) -> str:
    """As `metrics.jsonl` has them: what is not a number is null."""
    return json.dumps([{key: None if value != value else value for key, value in row.items()} for row in rows])


def distributed(name: str, options: dict, out: Path, rank: int, world_size: int) -> None:
    """One scenario: train whole; where it says so, train again with a stop and a resume; write everything down."""
    module_options = {key: options[key] for key in OPTIONS if key in options}
    settings = {**TRAINER, "devices": world_size, **options.get("trainer", {})}

    def run(**more):
        network = trained(**module_options)
        place = {"rank": rank, "world_size": world_size, "joined": options.get("joined", False)}
        place["background"] = options.get("background", False)
        rows, trainer = train(network, build_strategy(settings), **place, **more)
        return network, rows, trainer

    begin = {}
    if "continue" in options:  # what another number of processes has begun
        path, done = latest(out / options["continue"])
        begin = {"first": done, "checkpoint": path}
    network, rows, trainer = run(out=out / f"{name}-whole", **begin)
    gathered = weights.gather(network.student, keep=rank == 0)
    (out / f"{name}-rank{rank}.json").write_text(written(rows))
    torch.save(network.losses.state_dict(), out / f"{name}-losses-rank{rank}.pt")
    if rank == 0:
        weights.save(gathered, out / f"{name}.safetensors")
        (out / f"{name}.json").write_text(written(rows))
        if settings["strategy"] == "fsdp2" and settings["checkpoints"] == "sharded":
            names = [key for key, _ in network.student.named_parameters()]
            found = weights.consolidate(out / f"{name}-whole" / f"step-{STEPS:06d}.ckpt", names)
            weights.save(found, out / f"{name}-consolidated.safetensors")
    trainer.strategy.barrier()
    if "resume" in options:
        folder = out / f"{name}-resumed"
        run(out=folder, stop_after=options["resume"], every=options["resume"])
        trainer.strategy.barrier()
        path, done = latest(folder)
        network, rows, _ = run(out=folder, first=done, checkpoint=path)
        gathered = weights.gather(network.student, keep=rank == 0)
        if rank == 0:
            weights.save(gathered, out / f"{name}-resumed.safetensors")
            (out / f"{name}-resumed.json").write_text(written(rows))


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for scenario, chosen in json.loads(sys.argv[2]).items():
        distributed(scenario, chosen, folder, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
