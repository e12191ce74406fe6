"""One fit's memory in a process of its own: SmolLM2-135M's shape with random weights on made-up records.

python -m tests.fit_memory '{"layers": 14, "pack": 1024}'    prints JSON, sizes in bytes
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils.data import DataLoader, Dataset
from transformers import AutoModelForCausalLM

from dante.cost.machine import PeakMemory
from dante.cost.memory import memory_of, shape_of
from dante.data.batch import MicroBatch, StepBatch, documents
from dante.fit.module import DistillModule
from dante.fit.safety.return_freed import ReturnFreed
from dante.models.mkl_linear import avoid_emulation
from dante.run.config.check import check
from dante.run.config.schema import Fidelity, Fit
from dante.run.parts import build
from dante.students.attention.choose import use_attention
from dante.students.lean_norm import make_lean
from dante.students.load import config_from

RECORD_TOKENS = 192
SUPERVISED_SHARE = 0.45  # about the pocket cache's


def composed(*overrides: str) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir

    conf = Path(__file__).resolve().parents[1] / "conf"
    with initialize_config_dir(config_dir=str(conf), version_base="1.3"):
        return check(compose("train", overrides=list(overrides)))


def pack(tokens: int, seed: int, vocabulary: int) -> MicroBatch:
    """A row of `tokens` tokens in records of about `RECORD_TOKENS`, the end of each supervised."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocabulary, (tokens,), generator=draw)
    starts = list(range(0, tokens, RECORD_TOKENS))
    lengths = [min(RECORD_TOKENS, tokens - start) for start in starts]
    places, of = [], []
    for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        first = start + round(length * (1 - SUPERVISED_SHARE))
        places.append(torch.arange(first, start + length))
        of.append(torch.full((start + length - first,), number))
    targets, record = torch.cat(places), torch.cat(of)
    counts = torch.bincount(record)
    fields = {"output_entropy": torch.rand(len(starts), generator=draw), "supervised_tokens": counts}
    position_ids = torch.cat([torch.arange(length) for length in lengths])[None]
    return MicroBatch(
        ids[None],
        position_ids,
        targets - 1,
        ids[targets],
        record,
        fields,
        [str(s) for s in starts],
        **documents(lengths),
    )


class Steps(Dataset):
    """`count` steps of `packs` rows each: the first of all is full, the others between three quarters and all of it, as
    packs of real records are; a new length nearly every time is what leaves holes in the heap."""

    def __init__(self, count: int, packs: int, tokens: int, vocabulary: int) -> None:
        self.count, self.packs, self.tokens, self.vocabulary = count, packs, tokens, vocabulary

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> StepBatch:
        draw = torch.Generator().manual_seed(step)
        missing = torch.randint(0, self.tokens // 4, (self.packs,), generator=draw).tolist()
        if step == 0:
            missing[0] = 0
        rows = [pack(self.tokens - less, 100 * step + number, self.vocabulary) for number, less in enumerate(missing)]
        tokens = sum(row.input_ids.numel() for row in rows)
        supervised = sum(row.labels.numel() for row in rows)
        return StepBatch(rows, tokens, supervised, sum(len(row.record_ids) for row in rows), step)


class Watch(Callback):
    """Peak memory from the first step on, as `summary.json` tells it."""

    def __init__(self) -> None:
        self.peak = PeakMemory(torch.device("cpu"))

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.peak.start()


def main(options: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(1)
    layers, tokens = options.get("layers", 14), options.get("pack", 1024)
    tea, fidelity = options.get("tea", True), options.get("fidelity", "sound")
    cfg = composed(
        "+experiment=" + ("dante_mosaic" if tea else "sft"), "scale=pocket", f"fidelity={fidelity}",
        f"fit.max_tokens={tokens}", f"fit.gradient_checkpointing={options.get('checkpointing', 'none')}",
        f"fit.precision={options.get('precision', 'bf16')}", f"fit.steps={options.get('steps', 3)}",
    )  # fmt: skip
    fit, kept = Fit.model_validate(cfg["fit"]), Fidelity.model_validate(cfg["fidelity"])
    architecture = {**cfg["student"]["architecture"], "num_hidden_layers": layers}
    dtype = torch.float32 if cfg["fidelity"]["master_weights"] else torch.bfloat16
    student = AutoModelForCausalLM.from_config(config_from(architecture), dtype=dtype, attn_implementation="sdpa")
    losses = {name: build(node, name=name) for name, node in cfg["losses"].items()}
    use_attention(student, cfg["fit"]["attention"], "cpu")
    make_lean(student)
    avoid_emulation(student)
    module = DistillModule(student, losses, fit, kept, fit.precision, 0, "last")
    watch = Watch()
    trainer = Trainer(
        accelerator="cpu", devices=1, strategy=SingleDeviceStrategy(device=torch.device("cpu")), max_epochs=1,
        logger=False, callbacks=[watch, ReturnFreed()], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    plan = Steps(cfg["fit"]["steps"], options.get("packs", 2), tokens, architecture["vocab_size"])
    trainer.fit(module, DataLoader(plan, batch_size=None))
    need = memory_of(shape_of(student), fit, kept, cfg["trainer"], list(losses.values()))
    return {**options, "estimate": need.total, "peak": watch.peak.read_bytes()}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
