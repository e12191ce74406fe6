"""Counts over [0, 1]: enough of a distribution to sum over micro-batches and ranks, and to read quantiles from.

A token belongs to one of `BINS` bins of equal width; inside a bin tokens are taken as spread evenly. So a quantile is
right to a bin's width (a thousandth), on every rank the same, and a histogram is all that a checkpoint holds of it.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

BINS = 1024


def tally(signal: Float[Tensor, " tokens"], weights: Float[Tensor, "rows tokens"]) -> Float64[Tensor, "rows bins"]:
    """Σ of each row of weights per bin; `signal` in [0, 1]. Exact for weights that are whole numbers."""
    place = (signal * BINS).long().clamp_(0, BINS - 1)
    counts = torch.zeros(weights.shape[0], BINS, dtype=torch.float64, device=signal.device)
    return counts.index_add_(1, place, weights.double())


def quantile(counts: Float64[Tensor, " bins"], share: float) -> Float64[Tensor, ""]:
    """Where this share of the tokens lies below; 1 where there are none."""
    total = counts.sum()
    below = counts.cumsum(0)
    wanted = share * total
    place = (below < wanted).sum().clamp(max=BINS - 1)
    # gather, because an index would wait for the device
    inside, up_to = counts.gather(0, place[None])[0], below.gather(0, place[None])[0]
    fraction = (wanted - (up_to - inside)) / torch.where(inside > 0, inside, torch.ones_like(inside))
    return torch.where(total > 0, (place + fraction.clamp(0.0, 1.0)) / BINS, torch.ones_like(total))


def excess(counts: Float64[Tensor, " bins"], threshold: Tensor) -> Float64[Tensor, ""]:
    """Σ [signal − threshold]₊ over all tokens, each counted with its weight."""
    low = torch.arange(BINS, dtype=torch.float64, device=counts.device) / BINS
    high = low + 1 / BINS
    # The mean of [x − τ]₊ over a bin: its middle minus τ above τ; a triangle where τ lies inside.
    inside = (high - torch.maximum(low, threshold.double())).clamp_min(0.0)
    middle = (high + torch.maximum(low, threshold.double())) / 2
    return (counts * inside * BINS * (middle - threshold.double())).sum()


def coarse(counts: Float64[Tensor, "rows bins"], into: int) -> list[list[float]]:
    """The same counts in fewer bins, for a report; `into` divides `BINS`."""
    return counts.reshape(counts.shape[0], into, -1).sum(2).tolist()
