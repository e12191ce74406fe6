"""What calibration tokens say of a block's experts: how often, how much, how alike [C: KRAFTON, arXiv 2605.28207].

Over tokens t, with routing weights w without the block's scaling and every expert f_e run on every token:

    α_e   = E_t[w_e · 1{e selected}]
    CP_e  = mean of w_e over the tokens that selected e; 0 where none did
    ACP_e = CP_e · √(E_t‖f_e(x_t)‖²)
    G_ij  = E_t⟨f_i(x_t), f_j(x_t)⟩                      [fp64]

Shape suffixes: T tokens, E experts, D width, C tokens of a chunk.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dante.models.moe.adapter import SparseBlock

# Outputs of all experts that live at once, as entries.
_CHUNK_ENTRIES = 2**25


@dataclass(frozen=True)
class ExpertStatistics:
    """Of one block, on the CPU.

    Attributes:
        tokens: calibration tokens.
        count: tokens that selected each expert.
        weight: Σ_t w_e over them.
        gram: G.
        output_energy: E_t‖y_t‖² of the whole block's output.
    """

    tokens: int
    count: Int64[Tensor, " experts"]
    weight: Float[Tensor, " experts"]
    gram: Float[Tensor, "experts experts"]
    output_energy: float = 0.0

    @property
    def experts(self) -> int:
        return len(self.count)

    @property
    def alpha(self) -> Float[Tensor, " experts"]:
        """α: share of the routing weight that goes to each expert."""
        return self.weight / self.tokens

    @property
    def cp(self) -> Float[Tensor, " experts"]:
        """CP: mean weight where selected; 0 for a dead expert."""
        return torch.where(self.count > 0, self.weight / self.count.clamp_min(1), 0.0)

    @property
    def acp(self) -> Float[Tensor, " experts"]:
        """ACP: CP times the expert's root mean square norm."""
        return self.cp * self.gram.diagonal().clamp_min(0).sqrt()

    def tensors(self) -> dict[str, Tensor]:
        """As they are stored."""
        tokens = torch.tensor(self.tokens)
        energy = torch.tensor(self.output_energy, dtype=torch.float64)
        gram = self.gram.contiguous()
        return {"tokens": tokens, "count": self.count, "weight": self.weight, "gram": gram, "output_energy": energy}

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> "ExpertStatistics":
        """From what `tensors` gave."""
        energy = float(tensors["output_energy"])
        return cls(int(tensors["tokens"]), tensors["count"], tensors["weight"], tensors["gram"], energy)


class Gathering:
    """Statistics of a block, text by text.

    Args:
        block: on the device that the tokens are on.
    """

    def __init__(self, block: SparseBlock) -> None:
        self.block = block
        device = block.expert(0).gate.device
        options: dict[str, Any] = {"dtype": torch.float64, "device": device}
        self._count = torch.zeros(block.experts, dtype=torch.int64, device=device)
        self._weight = torch.zeros(block.experts, **options)
        self._gram = torch.zeros(block.experts, block.experts, **options)
        self._tokens, self._output = 0, torch.zeros((), **options)

    @torch.no_grad()
    def add(self, x_TD: Float[Tensor, "tokens width"]) -> None:
        """More tokens, as they enter the block."""
        block, routing = self.block, self.block.route(x_TD)
        chosen = routing.experts.flatten()
        self._count += torch.bincount(chosen, minlength=block.experts)
        self._weight.index_add_(0, chosen, routing.weights.flatten().double())
        weights_TE = torch.zeros(len(x_TD), block.experts, dtype=torch.float64, device=x_TD.device)
        weights_TE.scatter_(1, routing.experts, routing.weights.double())
        step = max(1, _CHUNK_ENTRIES // (block.experts * x_TD.shape[1]))
        for start in range(0, len(x_TD), step):
            x_CD, weights_CE = x_TD[start : start + step], weights_TE[start : start + step]
            outputs_ECD = torch.stack([block.expert(number)(x_CD) for number in range(block.experts)]).double()
            outputs_EF = outputs_ECD.flatten(1)
            self._gram.addmm_(outputs_EF, outputs_EF.T)
            y_CD = block.scaling * torch.einsum("ecd,ce->cd", outputs_ECD, weights_CE)
            self._output += (y_CD if block.shared is None else y_CD + block.shared(x_CD)).square().sum()
        self._tokens += len(x_TD)

    def result(self) -> ExpertStatistics:
        """What the tokens so far say."""
        gram = self._gram / max(self._tokens, 1)
        energy = float(self._output) / max(self._tokens, 1)
        return ExpertStatistics(self._tokens, self._count.cpu(), self._weight.cpu(), gram.cpu(), energy)
