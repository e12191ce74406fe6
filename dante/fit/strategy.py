"""How the fit is spread over devices: one process, DDP, or (with the training engine) FSDP2."""

from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

from dante.errors import DanteError


def build_strategy(trainer: dict[str, Any]) -> Strategy | str:
    """The Lightning strategy for a checked `trainer` node.

    Raises:
        DanteError: the strategy is not available.
    """
    return _BUILDERS[trainer["strategy"]](trainer)


def _one_process(trainer: dict[str, Any]) -> Strategy | str:
    if trainer["accelerator"] == "cpu":
        return SingleDeviceStrategy(device=torch.device("cpu"))
    return "auto"


def _ddp(trainer: dict[str, Any]) -> Strategy | str:
    # gloo on a CPU; NCCL is Lightning's own choice on GPUs. Buckets view gradients: no second copy of them.
    backend = "gloo" if trainer["accelerator"] == "cpu" else None
    return DDPStrategy(process_group_backend=backend, gradient_as_bucket_view=True)


def _fsdp2(trainer: dict[str, Any]) -> Strategy | str:
    raise DanteError(
        "sharded training (FSDP2) is not part of this version",
        where="trainer.strategy=fsdp2",
        allowed="auto on one device, ddp on several",
        fix="trainer.strategy=ddp; fidelity=card needs half of fidelity=sound's memory per device",
    )


_BUILDERS = {"auto": _one_process, "ddp": _ddp, "fsdp2": _fsdp2}
