"""Stage `blocks`: the teacher reads a fit's batches before it, and what its sparse blocks see and say lies in files.

The rows are the fit's own, so that a fit on files sees what it would see of a teacher beside it (in bf16). An
interrupted step goes on with its next row.
"""

import shutil
from pathlib import Path

import torch

from dante import console
from dante.data.batch import MicroBatch
from dante.data.datamodule import DistillData
from dante.data.of_fit import data_of_fit
from dante.errors import DanteError
from dante.fit.settings import Blocks
from dante.run.parts import build
from dante.run.precision import device_of
from dante.run.step import Step
from dante.supervision.asked import Asked, BlocksSource, LiveBlocks
from dante.supervision.kept.files import KeptBlocks, kept_bytes
from dante.supervision.sparse import rendering_of
from dante.system.threads import use_threads
from dante.text.rendering import renderer_of
from dante.text.tokenizer import load_tokenizer

_TOKENS = "tokens"
_SPARE_BYTES = 2**30  # for what follows in the same run


def run(step: Step[Blocks]) -> None:
    """Writes the files of `dante.supervision.kept.files`.

    Inputs: those of the fit that reads them: `cache`, `init`, `teacher`, `calibration`.

    Raises:
        DanteError: a budget decides the fit's length, the disk is too small, or the teacher has no sparse blocks.
    """
    step.out.mkdir(parents=True, exist_ok=True)
    use_threads(step.resources["trainer"]["threads"])
    _check_length(step)
    settings = step.settings
    renderer = renderer_of(settings.fit.rendering, load_tokenizer(step.inputs["init"] / "model"))
    data = data_of_fit(settings.fit, step.seed, step.inputs["cache"], renderer, step.out / _TOKENS)
    data.prepare_data()
    data.setup()
    asked = Asked(step.inputs, renderer, step.resources["trainer"], where="steps.blocks.settings.blocks")
    source: BlocksSource = build(dict(settings.blocks))
    beside = source.open(asked)
    device = torch.device(device_of(step.resources["trainer"]["accelerator"]))
    beside.place(device, None)
    files = KeptBlocks(step.out)
    tokens = _keep(data, beside, files, device)
    layers = sorted(beside.energies)
    files.seal(
        {
            "rendering": rendering_of(renderer.tokenizer),
            "sparse_layers": layers,
            "width": beside.width,
            "tokens": tokens,
            "records": len(files.records()),
        }
    )
    shutil.rmtree(step.out / _TOKENS, ignore_errors=True)


def _check_length(step: Step[Blocks]) -> None:
    if step.settings.fit.steps is None:
        raise DanteError(
            "blocks are kept for the batches of a fit, and how many it has is decided by a budget when it begins",
            where=f"steps.{step.label}",
            allowed="a fit of a number of steps",
            fix="budget=default, or the teacher beside the student: recipe=laguna_dense",
        )


def _keep(data: DistillData, beside: LiveBlocks, files: KeptBlocks, device: torch.device) -> int:
    """Every row of the plan that is not there yet; returns the tokens of all rows."""
    assert data.plan is not None
    total, layers = int(data.plan.tokens.sum()), sorted(beside.energies)
    tokens = number = 0
    with console.progress_bar() as bar:
        task = bar.add_task("blocks: tokens", total=total)
        for batch in data.train_dataloader():
            for micro in batch.micro_batches:
                if micro.record_ids:
                    if not files.has(number):
                        _keep_row(number, micro.to(device), beside, files, layers, total - tokens)
                    tokens += micro.input_ids.shape[1]
                    number += 1
                    bar.update(task, completed=tokens)
    return tokens


def _keep_row(
    number: int, micro: MicroBatch, beside: LiveBlocks, files: KeptBlocks, layers: list[int], tokens_left: int
) -> None:
    seen = beside.blocks(micro, micro.record_ids)
    pairs = [seen.of(layer) for layer in layers]
    if not number:
        _check_disk(files.folder, kept_bytes(tokens_left, len(layers), beside.width))
    records = list(zip(micro.record_ids, micro.document_tokens, strict=True))
    files.add(number, records, micro.input_ids[0], pairs)


def _check_disk(folder: Path, wanted: int) -> None:
    """Told before the first row, not when the disk is full."""
    free = shutil.disk_usage(folder).free
    console.info(f"  input and output of every block take {wanted / 2**20:,.0f} MiB")
    if wanted + _SPARE_BYTES > free:
        raise DanteError(
            f"the blocks of this fit take {wanted / 2**30:.1f} GiB, and the disk has {free / 2**30:.1f} GiB left",
            where=str(folder),
            allowed="a disk with room for input and output of every block, in bf16",
            fix="fewer steps (fit.steps), another disk (run.dir), or a teacher beside the student: recipe=laguna_dense",
        )
