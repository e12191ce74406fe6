"""Weights that are not numbers are found where they enter, not as a loss that is NaN hours later."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from dante.errors import DanteError


def check_finite(weights: nn.Module | Iterable[tuple[str, Tensor]], where: Path | str, fix: str) -> None:
    """Refuse weights that hold NaN or infinity.

    Args:
        weights: a model, or names and tensors.
        where: the file or folder that they came from.
        fix: what to do about it.

    Raises:
        DanteError: naming the first such tensor, and how many values of it are not finite.
    """
    named = weights.named_parameters() if isinstance(weights, nn.Module) else weights
    for name, tensor in named:
        # The sum of a tensor is finite only if all of its values are; it may overflow, so it only clears.
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.detach().sum(dtype=torch.float64))):
            bad = int((~torch.isfinite(tensor.detach())).sum())
            if bad:
                raise DanteError(
                    f"the tensor {name!r} holds {bad} of {tensor.numel()} values that are not finite (NaN or infinity)",
                    where=str(where),
                    allowed="finite numbers",
                    fix=fix,
                )
