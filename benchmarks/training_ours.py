"""Our side of `training.py`: the lab's own fit stage, whole, with the composed config of an experiment.

Nothing of the engine is named here but the stage: what a user's fit does (metrics, progress, stop signals, whatever the
config switches on) is inside the measured time. Only the records' order is fixed to one pass per block.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, LightningModule, Trainer
from training_job import LEARNING_RATE, Job, Pace

from dante.fit import stage
from dante.run.config.check import check
from dante.run.stages import STAGES
from dante.run.step import Step
from dante.students.load import count_parameters

CONF = Path(__file__).resolve().parents[1] / "conf"


class _Done(Exception):
    """All blocks are measured; the stage need not write its result."""


class _Turns(Callback):
    """Blocks of optimizer steps, one turn each."""

    def __init__(self, pace: Pace, job: Job) -> None:
        self.pace, self.steps, self.all_steps = pace, job.records // job.rows, job.blocks * job.records // job.rows

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch.step == 0:
            self.pace.parameters = count_parameters(pl_module)
        if batch.step % self.steps == 0:
            self.pace.begin()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        positions = sum(micro.input_ids.numel() for micro in batch.micro_batches)
        ce_nats = pl_module.collect_metrics()["ce_nats"]  # type: ignore[operator]
        loss_sum = torch.tensor(ce_nats * batch.supervised_tokens, dtype=torch.float64)
        self.pace.step(batch.tokens, batch.supervised_tokens, positions, loss_sum)
        if (batch.step + 1) % self.steps == 0:
            self.pace.end(self.steps)
        if batch.step + 1 == self.all_steps:
            self.pace.finish()
            raise _Done


def run(job: Job, pace: Pace, experiment: str, *overrides: str) -> None:
    """Run the blocks of `job` through the fit stage of an experiment."""
    _run(job, pace, experiment, overrides, {})


def run_cached(job: Job, pace: Pace, kind: str) -> None:
    """The same on kept logits of a kind, the files made before."""
    assert job.distillation is not None
    _run(job, pace, "cached_kd", [f"loss=[{kind}]", f"kept={kind}"], {"logits": Path(job.distillation) / "kept"})


def run_live(job: Job, pace: Pace, times: str) -> None:
    """The same with a live teacher of some times the student's size."""
    assert job.distillation is not None
    _run(job, pace, "chat_kd", [], {"teacher": Path(job.distillation) / times})


def _run(job: Job, pace: Pace, experiment: str, overrides: Sequence[str], more: dict[str, Path]) -> None:
    out = Path(job.out)
    config = composed(experiment, job, overrides)
    settings = STAGES["fit"].typed({key: config[key] for key in ("seed", "fit", "losses", "fidelity", "supervision")})
    resources = {"trainer": config["trainer"], "logger": {**config["logger"], "mode": "none"}, "run": config["run"]}
    (out / "init").mkdir(parents=True)
    (out / "init" / "model").symlink_to(Path(job.model).resolve())
    inputs = {"cache": Path(job.cache), "init": out / "init", **more}
    (out / "fit").mkdir()
    _add_to_trainers(_Turns(pace, job))
    with suppress(_Done):
        stage.run(Step("fit", "fit", settings, resources, inputs, out / "fit", "benchmark", config["seed"]))


def _add_to_trainers(callback: Callback) -> None:
    """Every Trainer that is built in this process has `callback` as its last: the stage takes none from outside."""
    build: Any = Trainer.__init__

    def init(self: Trainer, *positional: Any, callbacks: Any = None, **named: Any) -> None:
        build(self, *positional, callbacks=[*(callbacks or []), callback], **named)

    Trainer.__init__ = init  # type: ignore[method-assign]


def composed(experiment: str, job: Job, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The checked config: the experiment at pocket scale, with the job's steps and one pass over its records each."""
    steps = job.blocks * job.records // job.rows
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(
            "train",
            [
                f"+experiment={experiment}",
                f"fit.steps={steps}",
                f"fit.lr={LEARNING_RATE}",
                "fit.batch.unit=records",
                f"fit.batch.size={job.rows}",
                f"fit.max_tokens={job.max_tokens}",
                f"fit.checkpoint_every_steps={steps + 1}",
                "fit.curriculum._target_=dante.data.curriculum.Shuffled",
                f"trainer.threads={job.threads}",
                f"trainer.precision={job.precision}",
                *overrides,
                *job.overrides,
            ],
        )
    return check(cfg)
