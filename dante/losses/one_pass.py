"""One pass over the vocabulary for all linear losses.

Hidden states at supervised positions go through the LM head tile by tile. Every loss sees each tile's logits and states
its gradient; the pass turns that into ∂L/∂hidden and ∂L/∂weight at once, in the forward, so that no [tokens, vocab]
tensor lives whole and nothing is recomputed. Kept for backward: ∂L/∂hidden [tokens, width], ∂L/∂weight [vocab, width].

`dante.losses.vocabulary.scoring` is the same pass without gradients, for evaluation.

Precision: logits, softmax and both gradients are accumulated in fp32 (fp64 for fp64 inputs). With
`matmul_dtype=torch.bfloat16` the operands of the three matrix products are rounded to bf16; so is, once, ∂L/∂hidden on
a CPU that lacks the product of `dante.losses.vocabulary.mkl`, as under autocast.

Shape suffixes: N supervised tokens, T tokens of one tile, V vocabulary, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dante.losses.base import LinearLoss
from dante.losses.tokens import Need, SparseTargets, SupervisedTokens
from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.matmul import Matmul
from dante.losses.vocabulary.projection import cached_rows, project, softmax_sums
from dante.losses.vocabulary.rows import rows_to_visit
from dante.losses.vocabulary.tile import HiddenStates, Tile, auto_tile_tokens, tile_rows


@dataclass(frozen=True)
class PassResult:
    """What one pass returns.

    Attributes:
        total: Σ_losses λ Σ_t c_t ℓ_t, the only differentiable field.
        values: per loss ℓ_t of every token (unweighted).
        coefficients: per loss c_t of every token (without λ).
        label_log_probability: log p(label) of every token.
        kept: per loss what it kept of every token, by name.
    """

    total: Float[Tensor, ""]
    values: Mapping[str, Float[Tensor, " tokens"]]
    coefficients: Mapping[str, Float[Tensor, " tokens"]]
    label_log_probability: Float[Tensor, " tokens"]
    kept: Mapping[str, Mapping[str, Tensor]]


def vocabulary_pass(
    hidden: Float[Tensor, "tokens width"],
    head: Head,
    losses: Sequence[LinearLoss],
    weights: Mapping[str, float],
    tokens: SupervisedTokens,
    matmul_dtype: torch.dtype,
    tile_tokens: int | None,
) -> PassResult:
    """Run all linear losses over one micro-batch's supervised tokens.

    Args:
        hidden: hidden states at the supervised positions.
        head: the LM head; gradients reach its weight and bias.
        losses: linear losses; they share the projection and the softmax.
        weights: λ of each loss by name.
        tokens: labels and fields of these tokens, counts of the optimizer step.
        matmul_dtype: dtype that operands of matrix products are rounded to.
        tile_tokens: tokens per tile; None chooses by memory.
    """
    plan = _Plan(
        head=head,
        losses=losses,
        weights=weights,
        tokens=tokens,
        coefficients={loss.name: loss.coefficients(tokens).detach() for loss in losses},
        matmul=Matmul(matmul_dtype, hidden.device),
        tile_tokens=tile_tokens or auto_tile_tokens(head.weight.shape[0], hidden.device),
        wants_gradient=torch.is_grad_enabled(),
    )
    with torch.autocast(hidden.device.type, enabled=False):
        total = _VocabularyPass.apply(hidden, head.weight, head.bias, plan)
    assert plan.label_log_probability is not None
    return PassResult(total, plan.values, plan.coefficients, plan.label_log_probability, plan.kept)


@dataclass
class _Plan:
    """What the pass runs, and where it puts what it computes beside the total."""

    head: Head
    losses: Sequence[LinearLoss]
    weights: Mapping[str, float]
    tokens: SupervisedTokens
    coefficients: dict[str, Tensor]
    matmul: Matmul
    tile_tokens: int
    wants_gradient: bool
    values: dict[str, Tensor] = field(default_factory=dict)
    label_log_probability: Tensor | None = None
    kept: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def needs_logits(self) -> bool:
        return self.head.softcap is not None or any(loss.needs_logits for loss in self.losses)

    @property
    def needs_entropy(self) -> bool:
        return any(loss.needs_entropy for loss in self.losses)

    def needs(self, need: Need) -> bool:
        return any(need in loss.needs for loss in self.losses)

    def together(self) -> list[tuple[int, int]]:
        """Tokens that a loss has to see at once: those of a span."""
        teacher = self.tokens.teacher
        spans = list(teacher.spans.tokens.ranges) if self.needs("spans") else []
        return spans + (list(teacher.span_logits.tokens.ranges) if self.needs("span_logits") else [])


class _VocabularyPass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, plan: _Plan) -> Tensor:
        wants = plan.wants_gradient and any(ctx.needs_input_grad[:3])
        tiles = _Tiles(plan, hidden, weight, bias, wants)
        total = tiles.run()
        if wants:
            # The gradients are the saved state: backward only scales them.
            ctx.save_for_backward(*tiles.gradients())
        ctx.dtypes = hidden.dtype, weight.dtype, bias.dtype if bias is not None else None
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        scale = upstream[0]
        # Reading a scalar is free on a CPU, and nearly always it is 1; elsewhere it would wait for the device.
        is_one = scale.device.type == "cpu" and float(scale) == 1.0
        gradients: list[Tensor | None] = []
        for needed, gradient, dtype in zip(ctx.needs_input_grad, ctx.saved_tensors, ctx.dtypes, strict=False):
            if not needed or gradient is None:
                gradients.append(None)
                continue
            # In place: the buffer is ours and as large as the embedding; a second backward is an error of autograd's.
            gradients.append((gradient if is_one else gradient.mul_(scale)).to(dtype))
        return *gradients, None


class _Tiles:
    """The loop over tiles, with its buffers."""

    def __init__(self, plan: _Plan, hidden: Tensor, weight: Tensor, bias: Tensor | None, wants_gradient: bool) -> None:
        self.plan, self.wants_gradient = plan, wants_gradient
        self.dtype = torch.promote_types(hidden.dtype, torch.float32)
        self.states = hidden.detach()
        self.hidden = plan.matmul.operand(hidden.to(self.dtype) * plan.head.multiplier, self.dtype)
        self.weight = plan.matmul.operand(weight, self.dtype)
        self.narrow_weight = plan.matmul.narrow(self.weight) if wants_gradient else self.weight
        self.bias = bias.to(self.dtype) if bias is not None else None
        tokens, (vocab, width) = hidden.shape[0], weight.shape
        self.tiles = tile_rows(tokens, plan.tile_tokens, plan.together())
        rows = max((tile.stop - tile.start for tile in self.tiles), default=0)
        options: dict[str, Any] = {"dtype": self.dtype, "device": hidden.device}
        self.logits = torch.empty(rows, vocab, **options)
        # Probabilities overwrite the logits unless somebody still reads them.
        self.probabilities = torch.empty(rows, vocab, **options) if plan.needs_logits else self.logits
        self.teacher_logits = torch.empty(rows, vocab, **options) if plan.needs("teacher_logits") else None
        # The gradient once more, rounded while it lies in the cache: as an operand of products.
        narrow_dtype = self.narrow_weight.dtype
        narrows = wants_gradient and narrow_dtype != self.dtype
        self.narrow = torch.empty(rows, vocab, dtype=narrow_dtype, device=hidden.device) if narrows else None
        self.d_hidden = torch.empty(tokens, width, **options) if wants_gradient else None
        # The first tile writes it, later ones add: a memset of the embedding's size is a sixteenth of the whole pass.
        self.d_weight = torch.empty(vocab, width, **options) if wants_gradient else None
        if self.d_weight is not None and tokens == 0:
            self.d_weight.zero_()
        self.d_bias = torch.zeros(vocab, **options) if wants_gradient and bias is not None else None
        self.label_log_probability = torch.empty(tokens, **options)
        self.values = {loss.name: torch.empty(tokens, **options) for loss in plan.losses}
        self.kept: dict[str, dict[str, Tensor]] = {loss.name: {} for loss in plan.losses}

    def gradients(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        return self.d_hidden, self.d_weight, self.d_bias

    def run(self) -> Tensor:
        plan = self.plan
        for rows in self.tiles:
            self._run_tile(rows)
        for loss in plan.losses:
            if loss.needs_hidden and len(self.hidden):
                self._show_hidden(loss)
        plan.values, plan.label_log_probability, plan.kept = self.values, self.label_log_probability, self.kept
        total = torch.zeros((), dtype=self.dtype, device=self.hidden.device)
        for loss in plan.losses:
            total += (
                (plan.weights[loss.name] * plan.coefficients[loss.name] * self.values[loss.name]).sum().to(self.dtype)
            )
        return total

    def _run_tile(self, rows: slice) -> None:
        plan = self.plan
        hidden_TD = self.hidden[rows]
        logits_TV, p_TV = self.logits[: hidden_TD.shape[0]], self.probabilities[: hidden_TD.shape[0]]
        labels_T = plan.tokens.labels[rows]

        project(plan.matmul, plan.head.softcap, hidden_TD, self.weight, self.bias, out=logits_TV)
        sparse = plan.tokens.teacher.sparse.rows(rows) if plan.needs("sparse") else None
        sparse_logits_TK = logits_TV.gather(1, sparse.ids.clamp_min(0)) if sparse is not None else None
        teacher_TV = None
        if self.teacher_logits is not None:
            teacher_TV = self.teacher_logits[: hidden_TD.shape[0]]
            plan.tokens.teacher.logits.write(rows, out=teacher_TV)
        sums = softmax_sums(logits_TV, labels_T, out=p_TV, entropy=plan.needs_entropy)
        self.label_log_probability[rows] = sums.label_log_probability
        tile = Tile(
            start=rows.start,
            tokens=plan.tokens,
            labels=labels_T,
            log_z=sums.log_z,
            label_log_probability=sums.label_log_probability,
            label_is_argmax=sums.label_is_argmax,
            exp=p_TV,
            exp_sum=sums.exp_sum,
            wants_gradient=self.wants_gradient,
            maybe_entropy=sums.entropy,
            maybe_logits=logits_TV if plan.needs_logits else None,
            maybe_teacher_logits=teacher_TV,
            maybe_sparse_logits=sparse_logits_TK,
        )
        for loss in plan.losses:
            tile.kept = {}
            self.values[loss.name][rows] = loss.on_tile(tile, self._coefficients(loss, rows))
            self._keep(loss, rows, tile.kept)
        if self.wants_gradient:
            for cached in cached_rows(p_TV):
                gradient_RV = self._logit_gradient(tile, cached, p_TV[cached], sums.exp_sum[cached])
                if self.narrow is not None:
                    self.narrow[cached].copy_(gradient_RV)
            self._accumulate(rows, hidden_TD, p_TV)

    def _coefficients(self, loss: LinearLoss, rows: slice) -> Tensor:
        """λ c_t."""
        return self.plan.weights[loss.name] * self.plan.coefficients[loss.name][rows].to(self.dtype)

    def _keep(self, loss: LinearLoss, rows: slice, tile_columns: Mapping[str, Tensor]) -> None:
        columns = self.kept[loss.name]
        for name, values in tile_columns.items():
            if name not in columns:
                columns[name] = values.new_empty(self.hidden.shape[0], *values.shape[1:])
            columns[name][rows] = values

    def _show_hidden(self, loss: LinearLoss) -> None:
        states = HiddenStates(
            self.states.to(self.dtype), self.plan.tokens, self.kept[loss.name], self.d_hidden is not None
        )
        self.values[loss.name] = loss.on_hidden(states, self._coefficients(loss, slice(None)))
        if self.d_hidden is not None and states.gradient is not None:
            self.d_hidden += states.gradient

    def _logit_gradient(self, tile: Tile, rows: slice, p_RV: Tensor, exp_sum_R: Tensor) -> Tensor:
        """What `Tile` says of ∂L/∂z, before the softcap; overwrites `p_RV`, which is exp(z − max)."""
        curved = None
        if tile.plogp_coefficient is not None:
            curved = _plogp_rows(p_RV, exp_sum_R, tile.plogp_coefficient[rows])
        if tile.probability_coefficient is None:
            gradient_RV = p_RV.zero_()
        else:
            gradient_RV = p_RV.mul_((tile.probability_coefficient[rows] / exp_sum_R)[:, None])
        if curved is not None:
            gradient_RV.index_add_(0, *curved)
        if tile.label_coefficient is not None:
            gradient_RV.scatter_add_(1, tile.labels[rows, None], tile.label_coefficient[rows, None])
        if tile.entry_gradient is not None:
            _add_entries(gradient_RV, tile.sparse.rows(rows), tile.entry_gradient[rows])
        if tile.dense_gradient is not None:
            gradient_RV.add_(tile.dense_gradient[rows])
        softcap = self.plan.head.softcap
        if softcap is not None:
            # z = c·tanh(u/c): ∂z/∂u = 1 − (z/c)²
            gradient_RV.mul_(tile.logits[rows].div(softcap).square_().neg_().add_(1.0))
        return gradient_RV

    def _accumulate(self, rows: slice, hidden_TD: Tensor, gradient_TV: Tensor) -> None:
        assert self.d_hidden is not None
        assert self.d_weight is not None
        matmul = self.plan.matmul
        narrow_TV = self.narrow[: gradient_TV.shape[0]] if self.narrow is not None else gradient_TV
        operand_TV = narrow_TV if narrow_TV.dtype == self.weight.dtype else gradient_TV
        matmul.rounded_product(narrow_TV, self.narrow_weight, out=self.d_hidden[rows])
        self.d_hidden[rows].mul_(self.plan.head.multiplier)
        (matmul.accumulate if rows.start else matmul.product)(operand_TV.T, hidden_TD, self.d_weight)
        if self.d_bias is not None:
            self.d_bias += gradient_TV.sum(0)


def _add_entries(gradient_RV: Tensor, targets: SparseTargets, entries_RK: Tensor) -> None:
    """Add to the gradient at the targets' ids; what stands where an id is −1 is left out."""
    there_RK = targets.ids >= 0
    gradient_RV.scatter_add_(1, targets.ids.clamp_min(0), entries_RK.masked_fill(~there_RK, 0.0).to(gradient_RV.dtype))


def _plogp_rows(exp_RV: Tensor, exp_sum_R: Tensor, coefficient_R: Tensor) -> tuple[Tensor, Tensor] | None:
    """q·p·log p, and the rows it belongs to; None where there are none."""
    chosen_C = rows_to_visit(coefficient_R != 0)
    if len(chosen_C) == 0:
        return None
    exp_RV, exp_sum_R, coefficient_R = exp_RV[chosen_C], exp_sum_R[chosen_C], coefficient_R[chosen_C]
    # exp(z − max) underflows to 0 far below the maximum, where p log p is 0, too: log of the smallest number, times 0.
    log_p_CV = exp_RV.clamp_min(torch.finfo(exp_RV.dtype).tiny).log_().sub_(exp_sum_R.log()[:, None])
    return chosen_C, log_p_CV.mul_(exp_RV).mul_((coefficient_R / exp_sum_R)[:, None])
