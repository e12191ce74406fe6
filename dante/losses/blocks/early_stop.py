"""When a layer has learnt what it can: its units cost nothing any more, and stay as they are."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class EarlyStop(nn.Module):
    """Stops each layer by itself, when its smoothed error has not fallen by a share of itself for some steps.

    Args:
        patience: optimizer steps without such a fall.
        least: the share.
        smoothing: weight of the past in the running mean of errors.
    """

    stopped: Bool[Tensor, " layers"]
    mean: Float[Tensor, " layers"]
    best: Float[Tensor, " layers"]
    waited: Float[Tensor, " layers"]

    def __init__(self, patience: int, least: float = 0.01, smoothing: float = 0.9) -> None:
        super().__init__()
        self.patience, self.least, self.smoothing = patience, least, smoothing

    def begin(self, layers: int) -> None:
        """Told once how many layers there are."""
        self.register_buffer("stopped", torch.zeros(layers, dtype=torch.bool))
        self.register_buffer("mean", torch.full((layers,), torch.inf, dtype=torch.float64))
        self.register_buffer("best", torch.full((layers,), torch.inf, dtype=torch.float64))
        self.register_buffer("waited", torch.zeros(layers, dtype=torch.float64))

    def see(self, errors: Float[Tensor, " layers"], applied: Tensor) -> None:
        """The layers' errors of a step; those that have stopped are not looked at, a skipped step is none."""
        moves = applied & ~self.stopped
        new = torch.where(self.mean.isinf(), errors, self.smoothing * self.mean + (1 - self.smoothing) * errors)
        self.mean.copy_(torch.where(moves, new, self.mean))
        better = self.mean < (1 - self.least) * self.best
        self.best.copy_(torch.where(moves & better, self.mean, self.best))
        self.waited.copy_(torch.where(moves, torch.where(better, 0.0, self.waited + 1), self.waited))
        self.stopped |= self.waited >= self.patience
