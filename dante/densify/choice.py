"""Which experts of a block become its dense unit: the K best by a score, or a set that says different things.

| choice | score of expert e |
|---|---|
| `frequency` | tokens that selected it |
| `cp` | CP_e, its mean weight where selected |
| `acp` | ACP_e = CP_e · √(E_t‖f_e‖²) |
| `do_acp` | none: greedily the set S of n experts with the largest `logdet(K_S + λI)` |

with `K_ij = √(I_i I_j)·G_ij`, I = ACP, λ = mean(diag K)/n [C: KRAFTON, arXiv 2605.28207]. Equal scores go to the
lower number.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from dante.densify.calibration.statistics import ExpertStatistics


class Choice(ABC):
    """One way to choose."""

    #: What `init.json` calls it.
    name: str

    @abstractmethod
    def scores(self, statistics: ExpertStatistics) -> Float[Tensor, " experts"]:
        """How much each expert counts, for the order of the chosen and for averages of them."""

    def choose(self, statistics: ExpertStatistics, experts: int) -> list[int]:
        """Numbers of the chosen ones, the first chosen first.

        Args:
            statistics: of the block.
            experts: how many; not more than the block has.
        """
        return torch.argsort(self.scores(statistics), descending=True, stable=True)[:experts].tolist()


class Frequency(Choice):
    """By how many tokens selected an expert."""

    name = "frequency"

    def scores(self, statistics: ExpertStatistics) -> Tensor:
        return statistics.count.double()


class Cp(Choice):
    """By mean weight where selected."""

    name = "cp"

    def scores(self, statistics: ExpertStatistics) -> Tensor:
        return statistics.cp


class Acp(Choice):
    """By mean weight where selected, times the size of what the expert says."""

    name = "acp"

    def scores(self, statistics: ExpertStatistics) -> Tensor:
        return statistics.acp


class DoAcp(Choice):
    """A set that is important and not redundant: greedy maximisation of a log-determinant."""

    name = "do_acp"

    def scores(self, statistics: ExpertStatistics) -> Tensor:
        return statistics.acp

    def choose(self, statistics: ExpertStatistics, experts: int) -> list[int]:
        root = statistics.acp.sqrt()
        kernel_EE = root[:, None] * statistics.gram * root[None, :]
        ridge = kernel_EE.diagonal().mean() / experts
        chosen: list[int] = []
        for _ in range(experts):
            left = [number for number in range(statistics.experts) if number not in chosen]
            sets = torch.tensor([[*chosen, number] for number in left])
            minors = kernel_EE[sets[:, :, None], sets[:, None, :]] + ridge * torch.eye(sets.shape[1])
            # Every expert dead: no determinant differs, and the lowest numbers are as good as any.
            chosen.append(left[int(torch.linalg.slogdet(minors).logabsdet.argmax())])
        return chosen
