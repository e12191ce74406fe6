"""The optional W&B mirror. `metrics.jsonl` is written whether or not it is on."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from dante.system import rank


def build_loggers(logger: dict[str, Any], run: dict[str, Any], label: str, fingerprint: str) -> list[Logger]:
    """Loggers for a checked `logger` node: none, or W&B offline or online below the run's directory."""
    return _BUILDERS[logger["mode"]](logger, run, label, fingerprint)


def close_loggers(loggers: list[Logger]) -> None:
    """Let every mirror finish writing."""
    for logger in loggers:
        logger.finalize("success")
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _none(logger: dict[str, Any], run: dict[str, Any], label: str, fingerprint: str) -> list[Logger]:
    return []


def _wandb(logger: dict[str, Any], run: dict[str, Any], label: str, fingerprint: str) -> list[Logger]:
    if rank.of_this_process() != 0:
        return []
    import wandb

    directory = Path(run["dir"]).absolute()
    # Artifacts stage in the user's home unless told otherwise; nothing of a run lies outside its directory.
    os.environ.setdefault("WANDB_DATA_DIR", str(directory / "wandb"))
    mirror = wandb.init(
        project=logger["project"],
        name=f"{run['name']}/{label}",
        id=f"{label}-{fingerprint}",
        resume="allow",
        mode=logger["mode"],
        dir=directory,
        settings=wandb.Settings(silent=True, console="off", save_code=False),
    )
    return [WandbLogger(experiment=mirror)]


_BUILDERS = {"none": _none, "offline": _wandb, "online": _wandb}
