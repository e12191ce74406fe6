"""Stage `fit`: train the initialised student on the cache; continue where an interrupted fit stopped."""

import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor

from dante import console
from dante.cache.asked import check_rendering, rendered_with
from dante.data.datamodule import DistillData
from dante.data.of_fit import data_of_fit
from dante.errors import DanteError
from dante.fit.bill import Bill, bill_of, check_spent, measured, with_steps
from dante.fit.drawn import write_drawn
from dante.fit.keep import checkpoint, weights
from dante.fit.keep.checkpoint import Checkpoints, StreamingCheckpointIO
from dante.fit.module import DistillModule
from dante.fit.record.accounting import Accounting
from dante.fit.record.loggers import close_loggers
from dante.fit.record.metrics import Recorder
from dante.fit.record.metrics_file import MetricsFile
from dante.fit.record.spikes import SpikeWatch, records_of_step
from dante.fit.safety import lost_rank
from dante.fit.safety.memory_guard import guarded
from dante.fit.settings import Settings
from dante.fit.trainer import build_trainer
from dante.losses.base import BlockLoss
from dante.run.board import Board
from dante.run.precision import device_of
from dante.run.step import Step
from dante.students.attention.choose import use_attention
from dante.students.lean_norm import make_lean
from dante.students.load import count_parameters
from dante.students.trained import WEIGHTS, begun
from dante.students.units import UnitsAlone
from dante.supervision.asked import Asked
from dante.supervision.provided import (
    blocks_for,
    live_reader_for,
    live_teacher_for,
    needs_spans,
    reader_for,
    sparse_kind,
    supervision_for,
)
from dante.system import rank
from dante.system.files import write_json
from dante.system.threads import use_threads
from dante.text.rendering import renderer_of
from dante.text.tokenizer import load_tokenizer


@guarded
def run(step: Step[Settings]) -> None:
    """Train; write `metrics.jsonl`, `summary.json`, `drawn/` and `student.safetensors`.

    The weights are stored in fp32 under their HF names: the masters, or with bf16 weights their exact values.

    Inputs: `cache`; `init`, architecture, tokenizer and weights; `teacher`, for what its answers cost; `start`, where
    a recipe has several fits: the one whose weights this one begins with, instead of the initialisation's.
    """
    if (step.out / "summary.json").is_file():  # written last: an earlier attempt was stopped while it tidied up
        _tidy(step)
        return
    began_s = time.perf_counter()
    console.quiet_lightning()
    fit = _prepare(step, began_s)
    trainer = _train(fit)
    _write_weights(fit, trainer)
    if trainer.is_global_zero:
        _write_result(fit)
    trainer.strategy.barrier("written")


@dataclass
class _Prepared:
    """A fit before its first step: what it trains, on what, and where it begins.

    Attributes:
        step: with the number of steps that a budget decided.
        bill: what it will cost; on rank 0 alone, unless a budget decides the steps.
        resumed: newest checkpoint and the steps that it has behind it.
    """

    step: Step[Settings]
    module: DistillModule
    data: DistillData
    bill: Bill | None
    recorder: Recorder
    checkpoints: Checkpoints
    io: StreamingCheckpointIO
    board: Board
    resumed: tuple[Path, int] | None


def _prepare(step: Step[Settings], began_s: float) -> _Prepared:
    """Whatever can be refused is refused here: records and budget before weights are read, weights before a step."""
    devices = step.resources["trainer"]
    board = Board(Path(step.resources["run"]["dir"]).absolute(), devices["devices"] * devices["num_nodes"])
    use_threads(devices["threads"])
    seed_everything(step.seed, workers=True, verbose=False)
    source = step.inputs["init"] / "model"
    check_rendering(step.inputs["cache"], step.inputs.get("teacher"), rendered_with(step.inputs["init"]))
    asked = _asked(step, source)
    data = _data(step, asked)
    step, bill = _priced(step, data, source, board)
    module = _module(step, asked)
    resumed = _resumed(step)
    recorder = _recorder(step, data, module, began_s)
    if rank.of_this_process() == 0:
        recorder.cut_after(resumed[1] if resumed else 0)
    io = StreamingCheckpointIO(devices["background_checkpoints"])
    fit = step.settings.fit
    checkpoints = Checkpoints(
        step.out / "checkpoints", fit.checkpoint_every_steps, fit.keep_checkpoints, _sharded(devices), io
    )
    if resumed:
        data.start_step = resumed[1]
        console.info(f"  continues after step {resumed[1]} of {step.settings.steps}")
    return _Prepared(step, module, data, bill, recorder, checkpoints, io, board, resumed)


def _module(step: Step[Settings], asked: Asked) -> DistillModule:
    fit, fidelity, devices = step.settings.fit, step.settings.fidelity, step.resources["trainer"]
    losses = step.settings.build_losses()
    for loss in losses.values():  # a run that is too short for one is refused before the weights are read
        loss.begin(step.settings.steps)
    _layers_may_stop(losses, devices["strategy"])
    student = begun(
        step.inputs["init"], step.inputs.get("start"), torch.float32 if fidelity.master_weights else torch.bfloat16
    )
    use_attention(student, fit.attention, device_of(devices["accelerator"]))
    make_lean(student)
    return DistillModule(
        student=student,
        losses=losses,
        fit=fit,
        fidelity=fidelity,
        precision=fit.precision,
        seed=step.seed,
        gradient_sync=devices["gradient_sync"],
        teacher=live_teacher_for(step.settings.supervision, list(losses.values()), asked),
        blocks=blocks_for(step.settings.supervision, list(losses.values()), asked),
        reader=live_reader_for(step.settings.supervision, list(losses.values()), asked),
    )


def _layers_may_stop(losses: dict[str, Any], strategy: str) -> None:
    """DDP waits for a gradient of every weight, and a layer that has stopped has none."""
    stopping = [name for name, loss in losses.items() if isinstance(loss, BlockLoss) and loss.stop is not None]
    if stopping and strategy == "ddp":
        raise DanteError(
            f"layers of {stopping[0]} may stop one by one, and ddp wants every weight's gradient in every step",
            where=f"losses.{stopping[0]}.stop",
            allowed="null with ddp; anything with auto and fsdp2",
            fix="trainer.strategy=fsdp2",
        )


def _resumed(step: Step[Settings]) -> tuple[Path, int] | None:
    """Where an interrupted fit goes on."""
    resumed, strategy = checkpoint.latest(step.out / "checkpoints"), step.resources["trainer"]["strategy"]
    if resumed and resumed[0].is_dir() and strategy != "fsdp2":
        raise DanteError(
            f"this fit was begun with a sharded checkpoint ({resumed[0].name}), which strategy {strategy} cannot read",
            where="trainer.strategy",
            allowed="fsdp2, on any number of devices",
            fix="trainer.strategy=fsdp2 (with trainer.devices=1 on one device), or on_existing=overwrite to begin anew",
        )
    return resumed


def _train(fit: _Prepared) -> Trainer:
    if fit.board.used:
        lost_rank.watch()
    trainer = build_trainer(
        fit.step, fit.recorder, fit.checkpoints, fit.io, fit.board.folder / f"beats-{fit.step.label}"
    )
    path = fit.resumed[0] if fit.resumed else None
    try:
        trainer.fit(fit.module, datamodule=fit.data, ckpt_path=path, weights_only=True)
    except RuntimeError as error:
        lost = lost_rank.lost(error) if trainer.world_size > 1 else None
        if lost is None:
            raise
        raise lost from error
    finally:
        fit.data.supervision.close()
    close_loggers(trainer.loggers)
    return trainer


def _sharded(trainer: dict[str, Any]) -> bool:
    return trainer["strategy"] == "fsdp2" and trainer["checkpoints"] == "sharded"


def _priced(step: Step[Settings], data: DistillData, source: Path, board: Board) -> tuple[Step[Settings], Bill | None]:
    """Tokenise, plan, and price the plan; where a budget decides the steps, all ranks work them out from one table.

    A record that cannot be used is found here, before any weight is loaded.
    """
    limited = step.settings.fit.compute is not None
    tokenised = f"{step.label}-tokenised"
    if rank.of_this_process() == 0:
        data.prepare_data()
        board.tell(tokenised, "ready")
    elif limited:
        board.wait(tokenised)
    else:
        return step, None  # Lightning has the others wait for the table
    data.open()
    bill = bill_of(step, data, source)
    step = with_steps(step, bill)
    data.steps = step.settings.fit.steps
    data.setup()
    return step, bill


def _data(step: Step[Settings], asked: Asked) -> DistillData:
    losses = list(step.settings.build_losses().values())
    parts, folder, workers = step.settings.supervision, step.out / "tokens", step.resources["trainer"]["workers"]
    return data_of_fit(
        step.settings.fit,
        step.seed,
        step.inputs["cache"],
        asked.renderer,
        folder,
        workers,
        supervision_for(parts, losses, asked),
        needs_spans(losses, asked.renderer),
        reader_for(parts, losses, asked),
    )


def _asked(step: Step[Settings], source: Path) -> Asked:
    """What parts that provide the teacher's side are told of the fit."""
    kind = sparse_kind(list(step.settings.build_losses().values()))
    renderer = renderer_of(step.settings.fit.rendering, load_tokenizer(source))
    return Asked(step.inputs, renderer, step.resources["trainer"], kind, out=step.out)


def _recorder(step: Step[Settings], data: DistillData, module: DistillModule, began_s: float) -> Recorder:
    fit, (body, head) = step.settings.fit, module.network.work()
    accounting = Accounting(
        body_parameters=body if module.pass_losses else 0,  # else nothing goes through it
        head_parameters=head if module.pass_losses else 0,
        precision=fit.precision,
        peak_tflops=step.resources["trainer"]["peak_tflops"],
        began_s=began_s,
    )
    spikes = SpikeWatch(
        MetricsFile(step.out / "spikes.jsonl"), **fit.spike.model_dump(), records_of=records_of_step(data)
    )
    logged = MetricsFile(step.out / "metrics.jsonl")
    return Recorder(logged, fit.log_every_steps, step.settings.steps, accounting, spikes)


def _write_weights(prepared: _Prepared, trainer: Trainer) -> None:
    """Every rank takes part; rank 0 writes."""
    checkpoints, student = prepared.checkpoints, prepared.module.student
    if checkpoints.sharded:
        steps = prepared.step.settings.steps
        if checkpoints.saved != steps:
            checkpoints.save(trainer, steps)
        gathered = {}
        if trainer.is_global_zero:
            gathered = weights.consolidate(checkpoints.newest, [name for name, _ in student.named_parameters()])
    else:
        gathered = weights.gather(student, keep=trainer.is_global_zero)
    if trainer.is_global_zero:
        weights.save(_whole(prepared.step, student, gathered), prepared.step.out / WEIGHTS)


def _whole(step: Step[Settings], student: Any, trained: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the whole student: where its units alone were trained, everything else as it was."""
    if not isinstance(student, UnitsAlone):
        return trained
    return weights.gather(begun(step.inputs["init"], step.inputs.get("start"), torch.float32), keep=True) | trained


def _write_result(prepared: _Prepared) -> None:
    step, module, bill, recorder = prepared.step, prepared.module, prepared.bill, prepared.recorder
    assert bill is not None
    fit, data, losses = step.settings.fit, bill.data, module.loss_summaries()
    if recorder.steps_done != step.settings.steps:
        raise RuntimeError(f"the fit ended after step {recorder.steps_done} of {step.settings.steps}")
    assert data.plan is not None
    spent = measured(bill.of(data.plan), recorder.accounting.totals)
    check_spent(spent, fit.compute, step.settings.steps)
    write_drawn(step, bill.drawn(data.plan))
    write_json(
        step.out / "summary.json",
        {
            "steps": step.settings.steps,
            "parameters": count_parameters(module.student),
            "accelerator": step.resources["trainer"]["accelerator"],
            "device_name": step.resources["trainer"]["device_name"],
            **recorder.accounting.summary(),
            "final_loss": recorder.row["loss"] if math.isfinite(recorder.row["loss"]) else None,
            "skipped_updates": module.skipped_updates,
            "spikes": recorder.spikes.count if recorder.spikes else 0,
            "data": data.summary(),
            "losses": losses,
            "compute": spent.as_dict(fit.compute.model_dump() if fit.compute and fit.compute.counts_compute else None),
        },
    )
    if (note := recorder.accounting.note) is not None:
        console.note(note)
    for name, loss_result in losses.items():
        for note in loss_result.get("notes", []):
            console.note(f"{name}: {note}")
    if module.skipped_updates:
        console.note(f"{module.skipped_updates} updates were skipped because loss or gradient was not finite")
    _tidy(step)


def _tidy(step: Step[Settings]) -> None:
    """Remove what only a fit in progress needs."""
    if not step.settings.fit.keep_checkpoints:
        shutil.rmtree(step.out / "checkpoints", ignore_errors=True)
    shutil.rmtree(step.out / "tokens", ignore_errors=True)
