"""A student's weights spread over devices (FSDP2): every device keeps a part of each, and of its gradient and moments.

Every block is a group: gathered for its forward, again for its backward, in the compute dtype. The root group is what
is left: embedding, final norm, and an LM head that is usually the embedding itself. It stays whole from the root's
forward to its backward, so the vocabulary pass, which runs inside the root's forward, sees a whole head; and it is
gathered in its own dtype, so the head's gradient is as exact as on one device. Gradients are summed over devices in
fp32.

`trainer.shard_size` chooses how many devices share one copy: all of them, or (hybrid sharding) those of one node, with
a copy in every node; then only gradients cross between nodes.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard


def shard(root: nn.Module, groups: Sequence[nn.Module], mesh: DeviceMesh, compute_dtype: torch.dtype) -> None:
    """Shard in place; afterwards parameters are DTensors.

    Args:
        root: the module whose forward runs everything, and that holds the groups.
        groups: what is gathered by itself: a model's blocks (`dante.students.blocks.blocks_of`), or units.
        mesh: of shape [copies, devices per copy], as `dante.fit.strategy` makes it.
        compute_dtype: what blocks are gathered in where their weights are wider.
    """
    # Two dimensions mean: replicate over the first, shard over the second.
    over = mesh if mesh.size(0) > 1 else mesh[mesh.mesh_dim_names[1]]  # type: ignore[index]
    for group in groups:
        narrow = compute_dtype if _widest(group) == torch.float32 else None
        # Inputs keep their dtype: as under autocast on one device, the residual stream is not rounded between blocks.
        policy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False)
        fully_shard(group, mesh=over, mp_policy=policy)
    fully_shard(root, mesh=over, mp_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False))


def _widest(module: nn.Module) -> torch.dtype:
    return max((parameter.dtype for parameter in module.parameters()), key=lambda dtype: dtype.itemsize)
