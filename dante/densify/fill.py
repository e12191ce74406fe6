"""What the routed part of a dense unit begins as: parts of `student.init.fill`.

The shared expert is copied as it is in all of them but `Drawn`. The routed part is as wide as the experts of a token,
unless `experts` says otherwise.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from dante.densify.calibration.statistics import ExpertStatistics
from dante.densify.choice import Choice
from dante.densify.scaling import Groups, Scaling, scales
from dante.errors import DanteError
from dante.models.moe.adapter import SparseBlock
from dante.models.moe.glu import Glu, average, concatenate

WHERE = "student.init.fill"


class Fill(ABC):
    """One way to fill the routed part.

    Attributes:
        needs_statistics: whether it reads those of a calibration step.
        keeps_shared: whether the shared expert is copied.

    Args:
        experts: how many experts wide the routed part is; None: as many as a token has.
    """

    needs_statistics: ClassVar[bool] = False
    keeps_shared: ClassVar[bool] = True
    name: ClassVar[str]

    def __init__(self, experts: int | None = None) -> None:
        self.experts = experts

    def width(self, experts: int, top_k: int) -> int:
        """Experts' widths of the routed part.

        Args:
            experts: of a block.
            top_k: of a token.

        Raises:
            DanteError: more than the block has, or none.
        """
        width = top_k if self.experts is None else self.experts
        if not 0 < width <= experts:
            raise DanteError(
                f"{WHERE}.experts={width}, and a block has {experts} experts",
                where=f"{WHERE}.experts",
                allowed=f"1 to {experts}; null: {top_k}, those of a token",
                fix=f"{WHERE}.experts={min(max(width, 1), experts)}",
            )
        return width

    @abstractmethod
    def routed(self, block: SparseBlock, statistics: ExpertStatistics | None, scaling: Scaling) -> Glu:
        """The routed part, the block's scaling in it.

        Args:
            block: of the teacher.
            statistics: of the block, where there are any.
            scaling: what stands in place of routing weights.
        """

    def described(self) -> dict[str, Any]:
        """What `init.json` says of it."""
        return {"fill": self.name, "experts": self.experts}


class Drawn(Fill):
    """Random weights, shared part included: the control that asks what the inherited ones are worth.

    Args:
        experts: see `Fill`.
        seed: of the draws.
        deviation: of them; None: that of the block's own weights, tensor by tensor.
    """

    name = "random"
    keeps_shared = False

    def __init__(self, seed: int, experts: int | None = None, deviation: float | None = None) -> None:
        super().__init__(experts)
        self.deviation = deviation
        self._generator = torch.Generator().manual_seed(seed)

    def routed(self, block: SparseBlock, statistics: ExpertStatistics | None, scaling: Scaling) -> Glu:
        width = self.width(block.experts, block.top_k)
        shared = [] if block.shared is None else [block.shared]
        return self._like(concatenate([*shared, *(block.expert(number) for number in range(width))]))

    def _like(self, unit: Glu) -> Glu:
        def draw(tensor: Tensor) -> Tensor:
            deviation = float(tensor.detach().float().std()) if self.deviation is None else self.deviation
            drawn = torch.randn(tensor.shape, generator=self._generator) * deviation
            return drawn.to(tensor)

        given = (unit.gate_bias, unit.up_bias, unit.down_bias)
        biases = [None if bias is None else torch.zeros_like(bias) for bias in given]
        return Glu(draw(unit.gate), draw(unit.up), draw(unit.down), unit.activation, *biases)


class SharedOnly(Drawn):
    """The shared expert alone speaks at first: the routed part's last product is zero, its first two are random.

    [I] Zeros throughout would never learn anything: all their gradients are zero.
    """

    name = "shared_only"
    keeps_shared = True

    def routed(self, block: SparseBlock, statistics: ExpertStatistics | None, scaling: Scaling) -> Glu:
        if block.shared is None:
            raise DanteError(
                "the teacher's blocks have no shared expert",
                where=WHERE,
                allowed="random, average, frequency, cp, acp, do_acp, merged",
                fix="init=do_acp",
            )
        width = self.width(block.experts, block.top_k)
        drawn = self._like(concatenate([block.expert(number) for number in range(width)]))
        return drawn.scaled(0.0)


class Averaged(Fill):
    """All experts, averaged into as many as the routed part is wide: every k-th into the same one [I].

    One average of all, copied k times, would stay k copies for ever: their gradients are equal.
    """

    name = "average"

    def routed(self, block: SparseBlock, statistics: ExpertStatistics | None, scaling: Scaling) -> Glu:
        width = self.width(block.experts, block.top_k)
        groups = [list(range(first, block.experts, width)) for first in range(width)]
        return _joined(block, groups, [[1.0] * len(group) for group in groups], statistics, scaling)


class Selected(Fill):
    """Some experts, side by side.

    Args:
        choice: which.
        experts: how many; None: as many as a token has.
        groups: how many are left when the chosen are averaged, weighted by their scores: the g-th best goes into group
            g modulo `groups`; None: none are averaged. A choice of 16 in 8 groups has the width of 8.
    """

    needs_statistics = True
    name = "selected"

    def __init__(self, choice: Choice, experts: int | None = None, groups: int | None = None) -> None:
        super().__init__(experts)
        self.choice, self.groups = choice, groups
        #: Of each block that was filled.
        self.chosen: list[list[int]] = []

    def width(self, experts: int, top_k: int) -> int:
        chosen = super().width(experts, top_k)
        if self.groups is None:
            return chosen
        if not 0 < self.groups <= chosen:
            raise DanteError(
                f"{WHERE}.groups={self.groups}, and {chosen} experts are chosen",
                where=f"{WHERE}.groups",
                allowed=f"1 to {chosen}, or null",
                fix=f"{WHERE}.groups=null",
            )
        return self.groups

    def routed(self, block: SparseBlock, statistics: ExpertStatistics | None, scaling: Scaling) -> Glu:
        assert statistics is not None
        width = self.width(block.experts, block.top_k)
        chosen = self.choice.choose(statistics, super().width(block.experts, block.top_k))
        self.chosen.append(chosen)
        scores = self.choice.scores(statistics)
        ordered = chosen if self.groups is None else sorted(chosen, key=lambda number: (-float(scores[number]), number))
        groups = [ordered[first::width] for first in range(width)]
        return _joined(block, groups, [scores[group].tolist() for group in groups], statistics, scaling)

    def described(self) -> dict[str, Any]:
        said = {"fill": self.choice.name, "experts": self.experts, "groups": self.groups}
        return said | ({"chosen": self.chosen} if self.chosen else {})


def _joined(
    block: SparseBlock,
    groups: Groups,
    weights: Sequence[Sequence[float]],
    statistics: ExpertStatistics | None,
    scaling: Scaling,
) -> Glu:
    factors = scales(scaling, statistics, groups)
    parts = [
        average([block.expert(number) for number in group], weight)
        for group, weight in zip(groups, weights, strict=True)
    ]
    return concatenate([part.scaled(block.scaling * factor) for part, factor in zip(parts, factors, strict=True)])
