"""How the fit is spread over devices: one process, DDP, or FSDP2."""

from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy, Strategy

from dante.errors import DanteError


def build_strategy(trainer: dict[str, Any]) -> Strategy | str:
    """The Lightning strategy for a checked `trainer` node.

    Raises:
        DanteError: `shard_size` does not divide the devices.
    """
    return _BUILDERS[trainer["strategy"]](trainer)


def _one_process(trainer: dict[str, Any]) -> Strategy | str:
    if trainer["accelerator"] == "cpu":
        return SingleDeviceStrategy(device=torch.device("cpu"))
    return "auto"


def _ddp(trainer: dict[str, Any]) -> Strategy | str:
    # Buckets view gradients: no second copy of them.
    return DDPStrategy(**_process_group(trainer), gradient_as_bucket_view=True)


def _fsdp2(trainer: dict[str, Any]) -> Strategy | str:
    devices = trainer["devices"] * trainer["num_nodes"]
    shard_size = trainer["shard_size"] or devices
    if devices % shard_size:
        raise DanteError(
            f"{devices} devices are no multiple of {shard_size} that share one copy of the weights",
            where="trainer.shard_size",
            allowed=f"null (all), or a divisor of {devices}",
        )
    # Lightning's two dimensions, with its names: copies, and devices that share one. Its own default would be tensor
    # parallelism inside a node; here every device is data-parallel (`dante.students.sharding`).
    return ModelParallelStrategy(
        data_parallel_size=devices // shard_size,
        tensor_parallel_size=shard_size,
        save_distributed_checkpoint=trainer["checkpoints"] == "sharded",
        **_process_group(trainer),
    )


def _process_group(trainer: dict[str, Any]) -> dict[str, Any]:
    # gloo on a CPU; NCCL is Lightning's own choice on GPUs.
    backend = "gloo" if trainer["accelerator"] == "cpu" else None
    return {"process_group_backend": backend, "timeout": timedelta(seconds=trainer["timeout_s"])}


_BUILDERS = {"auto": _one_process, "ddp": _ddp, "fsdp2": _fsdp2}
