"""The Trainer of a fit: Lightning's loop, with the lab's own checkpoints, signals and records in it."""

from pathlib import Path

from lightning.pytorch import Trainer

from dante.fit.keep.checkpoint import Checkpoints, StreamingCheckpointIO
from dante.fit.record.loggers import build_loggers
from dante.fit.record.metrics import Recorder
from dante.fit.record.progress import ProgressLine
from dante.fit.safety.heartbeat import Heartbeat
from dante.fit.safety.return_freed import ReturnFreed
from dante.fit.safety.stop import StopBetweenSteps, leave_signals_alone
from dante.fit.settings import Settings
from dante.fit.strategy import build_strategy
from dante.run.precision import device_of
from dante.run.step import Step


def build_trainer(
    step: Step[Settings], recorder: Recorder, checkpoints: Checkpoints, io: StreamingCheckpointIO, beats: Path
) -> Trainer:
    """The Trainer for a step's resources.

    Args:
        step: the fit; `resources` names devices and loggers, `settings.fit.steps` its length.
        recorder: writes the metrics.
        checkpoints: writes them between steps.
        io: how they are written.
        beats: folder in which ranks tell each other that they are alive.
    """
    devices, steps = step.resources["trainer"], step.settings.steps
    trainer = Trainer(
        accelerator=device_of(devices["accelerator"]),
        devices=devices["devices"],
        num_nodes=devices["num_nodes"],
        strategy=build_strategy(devices),
        precision="32-true",  # the module computes in bf16 itself; weights keep the dtype they were loaded in
        max_epochs=1,  # the data plan is one pass over all steps, whatever the epochs of the cache
        logger=build_loggers(step.resources["logger"], step.resources["run"], step.label, step.fingerprint),
        callbacks=[
            recorder,  # first: its clock stops before anything else runs
            checkpoints,
            recorder.lap("checkpoint"),
            ProgressLine(recorder, steps),
            StopBetweenSteps(checkpoints, steps),
            Heartbeat(beats, float(devices["timeout_s"])),
            ReturnFreed(),
            recorder.lap("other"),
        ],
        plugins=[io],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=step.out,
    )
    leave_signals_alone(trainer)
    return trainer
