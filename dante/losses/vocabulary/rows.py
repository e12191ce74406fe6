"""Which rows of a tile to look at, where only some of them matter."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


def rows_to_visit(matters: Bool[Tensor, " rows"]) -> Int64[Tensor, " chosen"]:
    """On a CPU the rows that matter; elsewhere all of them, for counting them would wait for the device."""
    if matters.device.type == "cpu":
        return matters.nonzero()[:, 0]
    return torch.arange(len(matters), device=matters.device)
