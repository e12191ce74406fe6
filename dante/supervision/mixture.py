"""The mixture Σ w_k p_k of sparse targets, on the union of the ids that any teacher kept."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.functional import pad

from dante.losses.tokens import SparseTargets

_NONE = torch.iinfo(torch.int64).max  # sorts behind every id


def mixed(targets: Sequence[SparseTargets], shares: Sequence[float]) -> SparseTargets:
    """Several teachers' targets of the same tokens as one teacher's.

    A teacher that did not keep an id keeps its mass in its tail, so the mixture is exact in its total and coarser in
    its parts. For an id i of the union it is too small by Σ w_k p_k(i) over the teachers k that did not keep i: at most
    Σ w_k min(tail_k, smallest probability that k kept), and as much too large in the tail. Drawn tokens have no tail:
    their mixture is one of estimates without bias, and without bias itself.

    Args:
        targets: of each teacher, token by token.
        shares: w_k > 0; they sum to one.
    """
    ids = torch.cat([one.ids for one in targets], dim=1)
    parts = [share * one.probabilities for one, share in zip(targets, shares, strict=True)]
    mass = torch.cat(parts, dim=1)
    ids, order = ids.masked_fill(ids < 0, _NONE).sort(dim=1, stable=True)
    mass = mass.gather(1, order)
    new = pad(ids[:, 1:] != ids[:, :-1], (1, 0), value=True)
    place = new.cumsum(1) - 1 if ids.shape[1] else ids  # of each entry among the different ids of its token
    width = int((new & (ids != _NONE)).sum(1).max()) if ids.numel() else 0
    # What holds no id comes last, in a place that is cut off or filled.
    union = torch.full((len(ids), ids.shape[1] + 1), -1).scatter(1, place, ids.masked_fill(ids == _NONE, -1))
    total = mass.new_zeros(len(ids), ids.shape[1] + 1).scatter_add(1, place, mass.masked_fill(ids == _NONE, 0.0))
    tail = sum(share * one.tail for one, share in zip(targets, shares, strict=True))
    assert isinstance(tail, Tensor)
    return SparseTargets(union[:, :width], total[:, :width], tail)


def interleaved(parts: Sequence[SparseTargets], chosen: Sequence[Int64[Tensor, "_"]], tokens: int) -> SparseTargets:
    """Targets of several teachers, each of some of the tokens, in the order of the tokens.

    Args:
        parts: of each teacher's own tokens.
        chosen: their places.
        tokens: how many there are together.
    """
    width = max((part.ids.shape[1] for part in parts), default=0)
    ids = torch.full((tokens, width), -1)
    probabilities, tail = torch.zeros(tokens, width), torch.zeros(tokens)
    for part, places in zip(parts, chosen, strict=True):
        kept = part.ids.shape[1]
        ids[places, :kept], probabilities[places, :kept], tail[places] = part.ids, part.probabilities, part.tail
    return SparseTargets(ids, probabilities, tail)
