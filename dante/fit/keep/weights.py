"""The trained weights as one safetensors file, fp32, every parameter once, under the model's own names.

Two routes lead to the same bytes, each within host memory of one full copy:

- `gather`: every rank gives its shard of one parameter after the other, rank 0 keeps the whole;
- `consolidate`: one process reads the shards of a sharded checkpoint (DCP), without any of the devices.
"""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

from dante.errors import DanteError

# Where a checkpoint of the fit keeps the student's parameters.
STUDENT = "network.student."
_SHARDED_PREFIX = f"state_dict.{STUDENT}"


def gather(student: nn.Module, keep: bool) -> dict[str, Tensor]:
    """The weights, whole, on the CPU. A collective where they are sharded: every rank calls it.

    Args:
        keep: whether this rank wants them; the others get an empty dict.
    """
    weights = {}
    for name, parameter in student.named_parameters():  # a tied head is the embedding's other name: once
        value = parameter.detach()
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        if keep:
            weights[name] = whole.to("cpu", torch.float32).contiguous()
    return weights


def consolidate(checkpoint: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """The weights out of a sharded checkpoint.

    Args:
        checkpoint: its directory.
        names: the parameters' names in the student.

    Raises:
        DanteError: the checkpoint lacks some of them.
    """
    try:
        stored = dcp.FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    except (OSError, CheckpointException) as error:
        raise DanteError(f"not a sharded checkpoint ({error})", where=str(checkpoint)) from error
    weights: dict[str, Tensor] = {}
    # One process reads what several wrote: DCP warns that no process group is there, which is the point.
    warnings.filterwarnings("ignore", message="torch.distributed is disabled", module="torch.distributed.checkpoint")
    for name in names:
        facts = stored.get(_SHARDED_PREFIX + name)
        if not isinstance(facts, TensorStorageMetadata):
            raise DanteError(f"the checkpoint has no parameter {name!r}", where=str(checkpoint))
        value = torch.empty(facts.size, dtype=facts.properties.dtype)
        dcp.load({_SHARDED_PREFIX + name: value}, checkpoint_id=checkpoint, no_dist=True)
        weights[name] = value.float()
    return weights


def from_checkpoint(checkpoint: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """The weights out of any checkpoint of a fit, full (read by pages, not whole) or sharded.

    Raises:
        DanteError: there is no such checkpoint, or it lacks some parameters.
    """
    if checkpoint.is_dir():
        return consolidate(checkpoint, names)
    try:
        state = torch.load(checkpoint, mmap=True, weights_only=True, map_location="cpu")["state_dict"]
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise DanteError(
            f"not a checkpoint of a fit ({error})", where=str(checkpoint), allowed="step-000050.ckpt, file or directory"
        ) from error
    weights = {}
    for name in names:
        if STUDENT + name not in state:
            raise DanteError(f"the checkpoint has no parameter {name!r}", where=str(checkpoint))
        weights[name] = state[STUDENT + name].float()
    return weights


def save(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write the file whole or not at all."""
    temporary = path.with_suffix(".writing")
    save_file(dict(weights), temporary, metadata={"format": "pt"})
    temporary.replace(path)
