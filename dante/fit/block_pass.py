"""What an optimizer step runs for losses of blocks: every unit of the student on the teacher's own states.

All units in parallel and independently: none sees another's error. Neither a backbone nor an LM head of the student is
there, so a step costs the teacher's forward and the units alone.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from dante.data.batch import MicroBatch
from dante.errors import DanteError
from dante.losses.base import BlockErrors, BlockLoss
from dante.losses.tokens import SupervisedTokens
from dante.run.config.schema import Fit
from dante.students.sharding import shard
from dante.students.units import UnitsAlone
from dante.supervision.asked import LiveBlocks


@dataclass(frozen=True)
class BlockResult:
    """What one pass returns.

    Attributes:
        total: Σ_losses λ Σ_l Σ_t c ℓ, the only differentiable field.
        values: per loss Σ_l Σ_t c ℓ, unweighted.
        errors: of every unit.
    """

    total: Tensor
    values: Mapping[str, Tensor]
    errors: BlockErrors


class BlockPass(nn.Module):
    """The units, in one forward.

    Args:
        units: of the student, in the dtype that they are trained in.
        compute_dtype: with fp32 weights and bf16 here, units run under autocast.
    """

    def __init__(self, units: UnitsAlone, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.student = units
        self.compute_dtype = compute_dtype

    def check_matches(self, blocks: LiveBlocks) -> None:
        """Refuses blocks of another mixture than the units were made of.

        Raises:
            DanteError: other layers are sparse, or the states have another width.
        """
        ours = (tuple(self.student.layers), self.student.width)
        theirs = (tuple(sorted(blocks.energies)), blocks.width)
        if ours != theirs:
            raise DanteError(
                f"the student's units stand in layers {_few(ours[0])} on states of {ours[1]}, and the teacher's sparse "
                f"blocks in layers {_few(theirs[0])} on states of {theirs[1]}",
                where="supervision.blocks",
                allowed="the blocks of the very mixture that the student was made of",
                fix="student.source=teacher makes the run's teacher dense",
            )

    def prepare(self, fit: Fit) -> None:
        """Nothing of a unit is recomputed: what it keeps is smaller than what a backbone would."""
        self.student.train()
        if fit.compile:
            for layer in self.student.layers:
                self.student.unit(layer).compile(dynamic=True)

    def shard(self, mesh: DeviceMesh) -> None:
        """Every unit is a group."""
        shard(self, [self.student.unit(layer) for layer in self.student.layers], mesh, self.compute_dtype)

    def forward(
        self, batch: MicroBatch, losses: list[BlockLoss], weights: Mapping[str, float], tokens: SupervisedTokens
    ) -> BlockResult:
        """Run one packed row; `total` of the result carries the gradient to all units."""
        layers = self.student.layers
        device = batch.input_ids.device
        # An empty row is run for the sake of collectives, and counts for nothing.
        share = 1.0 / (tokens.step_row_tokens * len(layers)) if batch.record_ids else 0.0
        total = torch.zeros((), device=device)
        values = {loss.name: torch.zeros((), device=device) for loss in losses}
        error, energy = [], []
        autocast = self.compute_dtype == torch.bfloat16
        nothing = torch.zeros((), dtype=torch.float64, device=device)
        stopped = [all(flags) for flags in zip(*(loss.stopped() for loss in losses), strict=True)]
        for place, layer in enumerate(layers):
            if stopped[place]:
                error.append(nothing)
                energy.append(nothing)
                continue
            x_ND, y_ND = tokens.teacher.blocks.of(layer)
            unit = self.student.unit(layer)
            with torch.autocast(device.type, torch.bfloat16) if autocast else nullcontext():
                said = unit(x_ND.to(device) if autocast else x_ND.to(device, torch.float32))
            ours_ND = (said[0] if isinstance(said, tuple) else said).float()
            theirs_ND = y_ND.to(device, torch.float32)
            for loss in losses:
                value = loss.per_token(ours_ND, theirs_ND, place).sum() * share
                values[loss.name] = values[loss.name] + value.detach()
                total = total + weights[loss.name] * value
            counts = bool(batch.record_ids)
            error.append((ours_ND.detach() - theirs_ND).square().sum(dtype=torch.float64) * counts)
            energy.append(theirs_ND.square().sum(dtype=torch.float64) * counts)
        if not total.requires_grad:  # every layer has stopped: there is nothing to go backward through
            total = total + 0.0 * next(self.student.parameters()).sum()
        return BlockResult(total, values, BlockErrors(layers, torch.stack(error), torch.stack(energy)))

    def shares(self, result: BlockResult, losses: Sequence[BlockLoss], tokens: SupervisedTokens) -> dict[str, Tensor]:
        """A micro-batch's share of each metric."""
        shares = {"loss": result.total.detach()}
        for loss in losses:
            shares[f"loss/{loss.name}"] = result.values[loss.name]
            for metric, share in loss.metrics(result.errors).items():
                shares[f"{loss.name}/{metric}"] = share
        return shares

    def logged(self, loss: BlockLoss, sums: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """What a loss makes of its own sums over micro-batches and ranks."""
        return loss.logged(sums, progress, self.student.layers)

    def work(self) -> tuple[int, int]:
        """Parameters that every token goes through; there is no head."""
        return sum(parameter.numel() for parameter in self.student.parameters()), 0


def _few(layers: Sequence[int]) -> str:
    return f"{layers[0]} to {layers[-1]} ({len(layers)})" if layers else "none"
