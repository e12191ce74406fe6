"""What an optimizer step runs for losses of tokens: the student's backbone, then the one pass over the vocabulary."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from transformers import PreTrainedModel

from dante.cost.memory import shape_of
from dante.data.batch import MicroBatch
from dante.losses.base import LinearLoss
from dante.losses.one_pass import PassResult, vocabulary_pass
from dante.losses.tokens import SupervisedTokens
from dante.losses.vocabulary.head import Head
from dante.run.config.schema import Fit
from dante.students.backbone import supervised_states
from dante.students.blocks import blocks_of, prepare
from dante.students.sharding import shard


class StudentPass(nn.Module):
    """Backbone and vocabulary pass in one forward, so that sharding can wrap both at the root.

    Args:
        student: causal language model; its weights are trained in their own dtype.
        compute_dtype: with fp32 weights and bf16 here, the backbone runs under autocast.
        tile_tokens: tokens per tile of the vocabulary pass; None chooses by memory.
    """

    def __init__(self, student: PreTrainedModel, compute_dtype: torch.dtype, tile_tokens: int | None) -> None:
        super().__init__()
        self.student = student
        self.compute_dtype = compute_dtype
        self.tile_tokens = tile_tokens

    def prepare(self, fit: Fit) -> None:
        """See `dante.students.blocks.prepare`."""
        prepare(self.student, fit.gradient_checkpointing, fit.compile, fit.attention_dropout)

    def shard(self, mesh: DeviceMesh) -> None:
        """See `dante.students.sharding.shard`."""
        shard(self, blocks_of(self.student), mesh, self.compute_dtype)

    def forward(
        self, batch: MicroBatch, losses: list[LinearLoss], weights: Mapping[str, float], tokens: SupervisedTokens
    ) -> PassResult:
        """Run one packed row; `total` of the result carries the gradient to all weights."""
        head = Head.of(self.student)
        # bf16 weights run under autocast too: "BF16 weights + autocast" (DANTE-Mosaic-3.5B card [C]).
        autocast = self.compute_dtype == torch.bfloat16
        matmul_dtype = torch.bfloat16 if autocast else head.weight.dtype
        hidden_ND = supervised_states(self.student, batch, autocast)
        return vocabulary_pass(hidden_ND, head, losses, weights, tokens, matmul_dtype, self.tile_tokens)

    def shares(self, result: PassResult, losses: Sequence[LinearLoss], tokens: SupervisedTokens) -> dict[str, Tensor]:
        """A micro-batch's share of each metric."""
        shares = {
            "loss": result.total.detach(),
            "ce_nats": -result.label_log_probability.sum() / tokens.step_tokens,
        }
        for loss in losses:
            values = result.values[loss.name]
            shares[f"loss/{loss.name}"] = (result.coefficients[loss.name] * values).sum()
            for metric, share in loss.metrics(tokens, values, result.kept[loss.name]).items():
                shares[f"{loss.name}/{metric}"] = share
        return shares

    def logged(self, loss: LinearLoss, sums: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """What a loss makes of its own sums over micro-batches and ranks."""
        return loss.logged(sums, progress)

    def work(self) -> tuple[int, int]:
        """Parameters that every token goes through, and those of the head, where supervised ones do."""
        shape = shape_of(self.student)
        return shape.body_parameters, shape.embedding_entries
