"""The optional W&B mirror. `metrics.jsonl` is written whether or not it is on."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from dante import distributed


def build_loggers(logger: dict[str, Any], run: dict[str, Any], label: str, fingerprint: str) -> list[Logger]:
    """Loggers for a checked `logger` node: none, or W&B offline or online below the run's directory."""
    return _BUILDERS[logger["mode"]](logger, run, label, fingerprint)


def _none(logger: dict[str, Any], run: dict[str, Any], label: str, fingerprint: str) -> list[Logger]:
    return []


def _wandb(logger: dict[str, Any], run: dict[str, Any], label: str, fingerprint: str) -> list[Logger]:
    if distributed.rank() != 0:
        return []
    directory = Path(run["dir"]).absolute()
    # Artifacts stage in the user's home unless told otherwise; nothing of a run lies outside its directory.
    os.environ.setdefault("WANDB_DATA_DIR", str(directory / "wandb"))
    os.environ.setdefault("WANDB_SILENT", "true")
    return [
        WandbLogger(
            name=f"{run['name']}/{label}",
            save_dir=directory,
            project=logger["project"],
            offline=logger["mode"] == "offline",
            id=f"{label}-{fingerprint}",
        )
    ]


_BUILDERS = {"none": _none, "offline": _wandb, "online": _wandb}
