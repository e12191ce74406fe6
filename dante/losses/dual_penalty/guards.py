"""Guards: at which tokens may a prediction be made more confident?

A guard is a number a_t in [0, 1] per token, without a gradient. What an entropy's gradient `∂H/∂z_i = −f(p_i)`,
f(p) = p (log p + H), does to a token in a step of any size along that token's own logits (of a head without softcap)
follows from f: f is largest at the largest p, so

- where the label is the most likely token, its probability never falls, and its odds against every other token never
  fall; but a runner-up with f(p_j) > Σ p_i f(p_i) gains probability, too, at the cost of the tail;
- where moreover f(p_j) ≤ Σ_i p_i f(p_i) for every other token j, none but the label gains: log p_j moves by
  `f(p_j) − Σ_i p_i f(p_i)`, and the mean only rises along the way. A label of probability ≥ 1/2 always satisfies this.

| guard | a_t | may a wrong token gain? |
|---|---|---|
| `label_is_argmax` | 1 where no token is more likely than the label | only together with the label |
| `only_label_rises` | 1 where, besides, the second condition holds | never |
| `label_probability` | p_θ(label) | yes |
| `label_in_top5` | 1 where the label is among the five most likely tokens | yes |
| `none` | 1 | yes |

All [I]: the Kai-3B-Instruct card names no guard.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dante.losses.vocabulary.rows import rows_to_visit
from dante.losses.vocabulary.tile import Tile

Guard = Callable[[Tile, Tensor], Tensor]


def label_is_argmax(tile: Tile, candidates: Bool[Tensor, " tile"]) -> Float[Tensor, " tile"]:
    """1 where no token is more likely than the label."""
    return (tile.label_is_argmax & candidates).to(tile.log_z)


def only_label_rises(tile: Tile, candidates: Bool[Tensor, " tile"]) -> Float[Tensor, " tile"]:
    """1 where a lower entropy raises the label's probability and no other's."""
    allowed_T = tile.label_is_argmax & candidates
    rows_C = rows_to_visit(allowed_T)
    p_CV = tile.probabilities(rows_C)
    f_CV = p_CV.clamp_min(torch.finfo(p_CV.dtype).tiny).log_().add_(tile.entropy[rows_C, None]).mul_(p_CV)
    mean_C = torch.linalg.vecdot(p_CV, f_CV)
    second_C = f_CV.topk(2, dim=1).values[:, 1]
    found_T = tile.zero().index_copy_(0, rows_C, (second_C <= mean_C).to(tile.log_z))
    return found_T * allowed_T


def label_probability(tile: Tile, candidates: Bool[Tensor, " tile"]) -> Float[Tensor, " tile"]:
    """p_θ(label)."""
    return tile.label_log_probability.exp() * candidates


def label_in_top5(tile: Tile, candidates: Bool[Tensor, " tile"]) -> Float[Tensor, " tile"]:
    """1 where fewer than five tokens are more likely than the label."""
    rows_C = rows_to_visit(candidates)
    exp_CV = tile.exp[rows_C]
    more_likely_C = (exp_CV > exp_CV.gather(1, tile.labels[rows_C, None])).sum(1)
    found_T = tile.zero().index_copy_(0, rows_C, (more_likely_C < 5).to(tile.log_z))
    return found_T * candidates


def none(tile: Tile, candidates: Bool[Tensor, " tile"]) -> Float[Tensor, " tile"]:
    """1."""
    return candidates.to(tile.log_z)


# How each reads behind "a token is penalised".
WORDS = {
    "label_is_argmax": "only where the label is the most likely token",
    "only_label_rises": "only where no token but the label gains",
    "label_probability": "in proportion to the label's probability",
    "label_in_top5": "only where the label is among the five most likely tokens",
    "none": "whether right or wrong",
}
GUARDS: dict[str, Guard] = {
    guard.__name__: guard for guard in (label_is_argmax, only_label_rises, label_probability, label_in_top5, none)
}
