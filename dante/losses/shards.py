"""Sums and norms of tensors that may be sharded over ranks (FSDP2's DTensor) or whole (one process, DDP)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Replicate, distribute_tensor


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor (the tensor itself when it is not sharded)."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole `tensor`, sharded as `like` is. Every rank holds all of it: nothing is sent."""
    if not isinstance(like, DTensor):
        return tensor
    placed = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return placed.to_local()


def sum_over_shards(value: Float[Tensor, ""], like: Tensor) -> Float[Tensor, ""]:
    """Add up a scalar that every rank computed on its own shard of `like`."""
    if not isinstance(like, DTensor):
        return value
    placements = [Replicate() if placement.is_replicate() else Partial() for placement in like.placements]
    return DTensor.from_local(value, like.device_mesh, placements, run_check=False).full_tensor()


def total_norm(tensors: Sequence[Tensor]) -> Float[Tensor, ""]:
    """L2 norm of all tensors together, fp32, over all shards; one collective per kind of sharding.

    The same scalar on every rank. An empty sequence has norm 0.
    """
    if not tensors:
        return torch.zeros(())
    groups: dict[object, list[Tensor]] = {}
    for tensor in tensors:
        key = (tensor.device_mesh, tensor.placements) if isinstance(tensor, DTensor) else None
        groups.setdefault(key, []).append(tensor)
    squares = []
    for group in groups.values():
        local_square = torch.stack([_norm(local(tensor)) for tensor in group]).square().sum()
        squares.append(sum_over_shards(local_square, group[0]))
    return torch.stack(squares).sum().sqrt()


def _norm(tensor: Tensor) -> Tensor:
    """Accumulated in at least fp32."""
    return torch.linalg.vector_norm(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32)).float()
