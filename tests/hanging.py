"""A loss that never comes back on one rank: for the test of a stuck rank."""

import os

from torch import Tensor

from dante.losses.base import SupervisedTokens
from dante.losses.ce import CE
from dante.losses.schedule import Schedule


class HangingCE(CE):
    """CE that ends in an endless loop on rank 1 once it has seen `good` micro-batches."""

    def __init__(self, weight: Schedule, good: int, name: str = "") -> None:
        super().__init__(weight, name)
        self.left = good

    def coefficients(self, tokens: SupervisedTokens) -> Tensor:
        self.left -= 1
        while self.left < 0 and os.environ.get("LOCAL_RANK") == "1":
            pass
        return super().coefficients(tokens)
