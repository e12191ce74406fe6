"""AdamW for a student: parameter groups, learning rate, gradient clipping."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dante.errors import DanteError
from dante.run.config.schema import Fidelity, Fit


@dataclass(frozen=True)
class OptimizerSettings:
    """Everything about the update.

    Attributes:
        steps: optimizer steps of the run.
        lr: peak learning rate.
        min_lr_ratio: the cosine ends at this share of `lr`.
        warmup: fraction of the run with a linearly growing rate.
        betas: AdamW's.
        eps: AdamW's.
        weight_decay: AdamW's, on the parameters that `decay` names.
        clip: largest gradient norm.
        clip_scope: `per_loss` (token losses and each parameter loss apart) or `global` (their sum).
        decay: `matrices` (no decay on embeddings, norms, biases) or `all`.
    """

    steps: int
    lr: float
    min_lr_ratio: float
    warmup: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip: float
    clip_scope: str
    decay: str

    def __post_init__(self) -> None:
        _one_of("fidelity.clip", self.clip_scope, ("per_loss", "global"))
        _one_of("fidelity.decay", self.decay, ("matrices", "all"))

    @classmethod
    def of(cls, fit: Fit, fidelity: Fidelity) -> "OptimizerSettings":
        """From the settings of a fit whose number of steps is known."""
        shared = ("steps", "lr", "min_lr_ratio", "warmup", "eps", "weight_decay", "clip")
        values = {name: getattr(fit, name) for name in shared}
        return cls(**values, betas=fit.betas, clip_scope=fidelity.clip, decay=fidelity.decay)


def _one_of(where: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise DanteError(f"{where}={value!r} is unknown", where=where, allowed=", ".join(allowed))


def learning_rate(step: int, settings: OptimizerSettings) -> float:
    """Rate of optimizer step `step` (from 0): linear warm-up, then a cosine to `min_lr_ratio · lr`.

    Step k of W warm-up steps runs at (k + 1)/W of the peak, so that no step is spent at rate 0 [I].
    """
    warmup_steps = round(settings.warmup * settings.steps)
    if step < warmup_steps:
        return settings.lr * (step + 1) / warmup_steps
    fraction = min((step - warmup_steps) / max(settings.steps - warmup_steps, 1), 1.0)
    floor = settings.min_lr_ratio
    return settings.lr * (floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * fraction)))


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Trainable parameters, each once, in at most two groups: with and without weight decay.

    With `decay: matrices` a parameter decays when it has two or more dimensions and is no embedding; a tied head is
    the embedding and does not decay, an untied one is a matrix and does.
    """
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        decays = settings.decay == "all" or (parameter.ndim >= 2 and id(parameter) not in embeddings)
        (decayed if decays else exempt).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": exempt, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """Fused AdamW over `model`'s trainable parameters."""
    return torch.optim.AdamW(
        parameter_groups(model, settings), lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True
    )


def clip_divisor(norm: Tensor, limit: float) -> Tensor:
    """What gradients of total norm `norm` (a scalar) have to be divided by so that it is at most `limit`."""
    return (norm / limit).clamp(min=1.0)


def apply_update(optimizer: torch.optim.Optimizer, divisor: Tensor, applied: Tensor) -> None:
    """One step of the fused optimizer on gradients divided by `divisor`, or none at all, decided on the device.

    Both go to the fused kernel, which divides and skips by itself, as it does for a gradient scaler: no pass of its
    own over the gradients, and no wait for the device.

    Args:
        divisor: scalar.
        applied: boolean scalar.
    """
    optimizer.grad_scale = divisor.float()  # type: ignore[attr-defined]
    optimizer.found_inf = (~applied).float()  # type: ignore[attr-defined]
    optimizer.step()
