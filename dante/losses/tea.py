"""TEA: anchor of the token embedding at its initial value (DANTE-Mosaic-3.5B card).

    L_TEA = ‖E(θ) − E(θ₀)‖²_F on `embed_tokens`, λ_TEA: 1.0 → 0.1 linear over the run          [C]
    gradient: 2 λ s (E − E₀), s by reduction

The card's plain sum over 128,256 × 2,048 entries is enormous: at an rms drift of 1e-4 its gradient norm is 3.2, at 1e-3
it is 32, so at λ = 1 it freezes the embedding (and a tied head). Hence two more reductions and a calibration [I]:

| reduction | L | s |
|---|---|---|
| `frobenius_sum` | ‖ΔE‖²_F [C] | 1 |
| `row_mean` | ‖ΔE‖²_F / V | 1/V |
| `relative` | ‖ΔE‖²_F / ‖E₀‖²_F | 1/‖E₀‖²_F |

`calibrate`: λ(t) = schedule(t)·κ, κ such that at rms drift `drift_rms` and λ = κ the anchor's gradient norm is
`gradient_ratio` × the norm of the token losses' gradient on the embedding (as it enters the optimizer). That norm is a
running mean over the first `calibration` of the run, then frozen. Calibrated, the three reductions act the same.

The gradient is applied once per optimizer step, analytically, on this rank's shard; never once per micro-batch.

Metrics: `drift_frobenius` ‖ΔE‖_F; `drift_rms` ‖ΔE‖_F/√(Vd); `gradient_ratio` ‖g_TEA‖/‖g_tokens‖ on the embedding.
λ as applied is logged as `weight/<name>`.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dante.errors import DanteError
from dante.losses.base import ParameterLoss, ParameterTerm
from dante.losses.schedule import Schedule
from dante.losses.shards import local, shard_like, sum_over_shards, total_norm

REDUCTIONS = ("frobenius_sum", "row_mean", "relative")


def reduction_scale(reduction: str, reference: Float[Tensor, "vocab width"], squared_norm: Tensor) -> Tensor:
    """s such that L = s·‖E − E₀‖²_F; `squared_norm` is ‖E₀‖²_F (a scalar)."""
    scales = {
        "frobenius_sum": torch.ones_like(squared_norm),
        "row_mean": torch.ones_like(squared_norm) / reference.shape[0],
        "relative": 1.0 / squared_norm,
    }
    return scales[reduction]


class TEA(ParameterLoss):
    """Quadratic anchor of the input embedding at its initial value.

    Args:
        weight: schedule of λ over progress.
        reduction: `frobenius_sum`, `row_mean` or `relative`.
        calibrate: multiply the schedule by the measured κ.
        gradient_ratio: anchor's gradient norm over the token losses' at `drift_rms` (0.1 [I]).
        drift_rms: rms drift of an entry at which `gradient_ratio` holds (1e-4 [I]).
        calibration: fraction of the run over which the token losses' gradient is measured (the warm-up [I]).
        name: key in the recipe.

    Raises:
        DanteError: unknown `reduction`.
    """

    gradient_norm_mean: Tensor
    observations: Tensor

    def __init__(
        self,
        weight: Schedule,
        reduction: str,
        calibrate: bool,
        gradient_ratio: float,
        drift_rms: float,
        calibration: float,
        name: str = "",
    ) -> None:
        super().__init__(weight, name)
        if reduction not in REDUCTIONS:
            raise DanteError(
                f"reduction is {reduction!r}", where=f"losses.{self.name}.reduction", allowed=", ".join(REDUCTIONS)
            )
        self.reduction, self.calibrate = reduction, calibrate
        self.gradient_ratio, self.drift_rms, self.calibration = gradient_ratio, drift_rms, calibration
        self.register_buffer("gradient_norm_mean", torch.zeros(()))
        self.register_buffer("observations", torch.zeros(()))
        # Plain attributes: in no checkpoint, in no DDP buffer broadcast. The reference is the weights that the
        # fit begins with, which every start of it reads first; the parameter belongs to the student.
        self._bound: tuple[nn.Parameter, Tensor] | None = None
        self._observed_norm: Tensor | None = None

    def attach(self, student: nn.Module, reference: Float[Tensor, "vocab width"]) -> None:
        """Anchor `student`'s input embedding at `reference`, its whole weight before training (kept in its dtype).

        Raises:
            DanteError: the shapes differ.
        """
        parameter = student.get_input_embeddings().weight  # type: ignore[operator]
        if parameter.shape != reference.shape:
            raise DanteError(
                f"the anchor's reference has shape {tuple(reference.shape)}, the embedding {tuple(parameter.shape)}",
                where=f"losses.{self.name}",
                fix="attach the weights that this student starts from",
            )
        shard = shard_like(reference.detach(), parameter)
        squared_norm = sum_over_shards(total_norm([shard]).square(), parameter)
        self._scale = float(reduction_scale(self.reduction, reference, squared_norm))
        self._bound = (parameter, shard)

    def observe(self, progress: float, divisor: Tensor) -> None:
        """Measure the token losses' gradient on the embedding; during calibration, update its running mean."""
        parameter, _ = self._binding()
        assert parameter.grad is not None, "the embedding has no gradient: observe() comes after backward()"
        norm = total_norm([parameter.grad]) / divisor
        self._observed_norm = norm
        if not self.calibrate:
            return
        # The first finite gradient counts even where the calibration is shorter than a step.
        counts = norm.isfinite() & ((self.observations == 0) | (progress < self.calibration))
        mean = self.gradient_norm_mean
        mean.copy_(torch.where(counts, mean + (norm - mean) / (self.observations + 1), mean))
        self.observations += counts

    def effective_weight(self, progress: float) -> Tensor:
        """λ(progress), calibration included; a scalar, equal on every rank."""
        weight = self.weight(progress) * torch.ones_like(self.gradient_norm_mean)
        if not self.calibrate:
            return weight
        parameter, _ = self._binding()
        # ‖2 κ s ΔE‖ at rms drift r is 2 κ s r √(Vd).
        at_unit_weight = 2.0 * self._scale * self.drift_rms * math.sqrt(parameter.numel())
        return weight * self.gradient_ratio * self.gradient_norm_mean / at_unit_weight

    def term(self, progress: float) -> ParameterTerm:
        """s ‖E − E₀‖², λ, and the gradient 2 λ s (E − E₀) for this rank's shard."""
        parameter, reference = self._binding()
        drift = local(parameter.detach()).to(torch.promote_types(parameter.dtype, torch.float32)) - reference
        norm = sum_over_shards(total_norm([drift]).square(), parameter).sqrt()
        weight = self.effective_weight(progress).to(norm.device)
        slope = 2.0 * weight * self._scale
        gradient_norm = slope * norm
        metrics = {"drift_frobenius": norm, "drift_rms": norm / math.sqrt(parameter.numel())}
        if self._observed_norm is not None:
            metrics["gradient_ratio"] = gradient_norm / self._observed_norm
        return ParameterTerm(
            value=self._scale * norm.square(),
            weight=weight,
            gradients=[(parameter, drift.mul_(slope))],
            gradient_norm=gradient_norm,
            metrics=metrics,
        )

    def _binding(self) -> tuple[nn.Parameter, Tensor]:
        if self._bound is None:
            raise DanteError(
                "the anchor has no reference", where=f"losses.{self.name}", fix="call attach(student, reference) first"
            )
        parameter, reference = self._bound
        if reference.device != local(parameter).device:
            reference = reference.to(local(parameter).device)
            self._bound = (parameter, reference)
        return parameter, reference
