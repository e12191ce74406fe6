"""What each expert in a dense unit is multiplied by in place of its routing weight, besides the block's own scaling.

| scaling | s_e |
|---|---|
| `uniform` | 1/K: what the router's normalised weights come to on average (default) |
| `conditional` | CP_e, the mean weight where selected: where the router does not normalise (DeepSeek-V2) |
| `normalised` | α_e / Σ_S α |
| `marginal` | α_e: with K ≪ E these sum to about K/E, and the routed part nearly vanishes |

[C: KRAFTON, arXiv 2605.28207]. Several experts averaged into one [I]: `conditional` their mean, the others their sum.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from dante.densify.calibration.statistics import ExpertStatistics

Scaling = Literal["uniform", "conditional", "normalised", "marginal"]
Groups = Sequence[Sequence[int]]


def scales(scaling: Scaling, statistics: ExpertStatistics | None, groups: Groups) -> list[float]:
    """s of each part of a unit.

    Args:
        scaling: its name.
        statistics: of the block; `uniform` needs none.
        groups: numbers of the experts that are averaged into each part, mostly one.
    """
    if scaling == "uniform":
        return [1 / len(groups)] * len(groups)
    assert statistics is not None, "only uniform works without statistics"
    result: list[float] = _SCALES[scaling](statistics, groups).tolist()
    return result


def _conditional(statistics: ExpertStatistics, groups: Groups) -> Tensor:
    return torch.stack([statistics.cp[list(group)].mean() for group in groups])


def _marginal(statistics: ExpertStatistics, groups: Groups) -> Tensor:
    return torch.stack([statistics.alpha[list(group)].sum() for group in groups])


def _normalised(statistics: ExpertStatistics, groups: Groups) -> Tensor:
    marginal = _marginal(statistics, groups)
    # None was ever selected: they count alike.
    return marginal / marginal.sum() if marginal.sum() > 0 else torch.full_like(marginal, 1 / len(groups))


_SCALES: dict[str, Callable[[ExpertStatistics, Groups], Tensor]] = {
    "conditional": _conditional,
    "marginal": _marginal,
    "normalised": _normalised,
}
