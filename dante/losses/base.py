"""What a loss is: the kinds that the training step knows, and what each is shown.

| kind | class | sees |
|---|---|---|
| `linear` | `LinearLoss` | a tile of logits and per-token coefficients that are known before the pass |
| `block` | `BlockLoss` | what a unit of the student and the teacher's block say of the teacher's own states |
| `parameter` | `ParameterLoss` | weights, once per optimizer step |

The training step asks a loss for its kind, never for its name. A loss knows no trainer, no configuration, no logger; it
may hold state (buffers: in checkpoints, equal on every rank).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dante.errors import DanteError
from dante.losses.blocks.early_stop import EarlyStop
from dante.losses.schedule import Schedule
from dante.losses.tokens import Need, SupervisedTokens
from dante.losses.vocabulary.tile import HiddenStates, Tile


class Loss(nn.Module):
    """Base of all losses.

    Attributes:
        kind: which part of the training step runs this loss.
        name: its key in the recipe (`losses.<name>`), used in metrics; the class's name where none is given.
        weight: λ(progress).
    """

    kind: ClassVar[str]
    #: What it reads of the teacher besides the text (`SupervisedTokens.teacher`); `dante.supervision` provides it.
    needs: ClassVar[frozenset[Need]] = frozenset()

    def __init__(self, weight: Schedule, name: str = "") -> None:
        super().__init__()
        self.name = name or type(self).__name__.lower()
        self.weight = weight

    def begin(self, steps: int) -> None:
        """Told once, before the first step, how many optimizer steps the run has.

        Raises:
            DanteError: the loss cannot work in so few.
        """

    def on_optimizer_step(self, progress: float, sums: Mapping[str, Tensor], applied: Tensor) -> None:
        """Called after each step with what this loss's `metrics` gave, summed over micro-batches and ranks.

        `applied` (a boolean scalar on the device) is false where the update was skipped because something was not
        finite: state must move only where it is true, for example with `torch.where`.
        """

    def sentence(self) -> str:
        """What it does under its name and settings, as one sentence for reports; empty where its name says it."""
        return ""

    def summary(self) -> dict[str, Any]:
        """What `summary.json` says of this loss when the fit has ended, as JSON; it may wait for the device."""
        return {}


class LinearLoss(Loss):
    """A loss `Σ_t c_t ℓ_t(logits_t)` whose coefficients c are known before the vocabulary is projected.

    Either define `per_token` and let autograd differentiate it on each tile, or override `on_tile` with the analytic
    gradient: that saves a tile-sized graph, and with `needs_logits = False` a tile-sized buffer. A loss of the hidden
    states overrides `on_hidden`.
    """

    kind = "linear"
    #: Whether `on_tile` reads `tile.logits` (else only log-probabilities of the labels are there).
    needs_logits: bool = True
    #: Whether `on_tile` reads `tile.entropy` or adds an entropy's gradient.
    needs_entropy: bool = False
    #: Whether `on_hidden` is to be called when all tiles have been seen.
    needs_hidden: bool = False

    def coefficients(self, tokens: SupervisedTokens) -> Float[Tensor, " tokens"]:
        """c_t without λ, normalised by the whole optimizer step.

        Summed over its micro-batches and ranks, `Σ c ℓ` is the loss.
        """
        return tokens.uniform()

    def per_token(self, logits_TV: Float[Tensor, "tile vocab"], tile: Tile) -> Float[Tensor, " tile"]:
        """ℓ_t as a differentiable function of the logits."""
        raise DanteError(
            f"the loss {self.name!r} ({type(self).__name__}) defines neither per_token nor on_tile",
            where=f"losses.{self.name}",
            allowed="per_token(logits_TV, tile), which autograd differentiates, or on_tile with the gradient",
            fix="define one of them",
        )

    def on_tile(self, tile: Tile, coefficients: Float[Tensor, " tile"]) -> Float[Tensor, " tile"]:
        """Return ℓ_t and hand the tile the gradient of `Σ coefficients_t ℓ_t` (coefficients include λ)."""
        if not tile.wants_gradient:
            return self.per_token(tile.logits, tile).detach()
        with torch.enable_grad():
            logits_TV = tile.logits.detach().requires_grad_()
            values_T = self.per_token(logits_TV, tile)
            self._check_values(values_T, tile)
            (gradient_TV,) = torch.autograd.grad(values_T, logits_TV, grad_outputs=coefficients.to(values_T.dtype))
        tile.add_gradient(gradient_TV)
        return values_T.detach()

    def _check_values(self, values: Any, tile: Tile) -> None:
        """What a `per_token` that somebody has just written may give back."""
        given = f"shape {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        if isinstance(values, Tensor) and values.shape == tile.labels.shape:
            if values.requires_grad:
                return
            given = "values that do not depend on the logits"
        raise DanteError(
            f"per_token of the loss {self.name!r} ({type(self).__name__}) gives {given} for a tile of "
            f"{len(tile.labels)} tokens",
            where=f"losses.{self.name}",
            allowed=f"one value per token: shape [{len(tile.labels)}], a differentiable function of the logits",
            fix="sum or gather over the vocabulary, the last dimension of the logits, and average over nothing",
        )

    def on_hidden(self, states: HiddenStates, coefficients: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        """Return ℓ_t of every token in place of what the tiles gave, and add the gradient of `Σ coefficients_t ℓ_t`.

        Called after the last tile, where the loss declares `needs_hidden`.
        """
        raise NotImplementedError(f"{type(self).__name__} declares needs_hidden without on_hidden")

    def metrics(
        self, tokens: SupervisedTokens, values: Float[Tensor, " tokens"], kept: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """This micro-batch's share of each metric: the shares are summed over micro-batches and ranks.

        Args:
            tokens: the micro-batch's supervised tokens.
            values: ℓ_t.
            kept: what this loss kept of each token (`Tile.keep`).

        Returns:
            Scalars, or other tensors of one shape in every step where `logged` makes scalars of them.
        """
        return {}

    def logged(self, sums: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """The scalars to log of the step, from the sums of `metrics` over its micro-batches and ranks."""
        return sums


@dataclass(frozen=True)
class BlockErrors:
    """What a micro-batch says of every unit, in the order of the layers: shares that are summed over micro-batches.

    Attributes:
        layers: numbers of the layers.
        error: Σ_t ‖f(x_t) − y_t‖².
        energy: Σ_t ‖y_t‖².
    """

    layers: Sequence[int]
    error: Float[Tensor, " layers"]
    energy: Float[Tensor, " layers"]


class BlockLoss(Loss):
    """A loss `Σ_l Σ_t ℓ(f_l(x_t), y_t)` of units that are trained independently on the teacher's own states.

    The mean over all tokens of the optimizer step, prompts too, and over layers. No unit sees another's error, and
    neither a backbone nor an LM head of the student is there.
    """

    kind = "block"
    needs: ClassVar[frozenset[Need]] = frozenset({"blocks"})
    #: E_t‖y_t‖² of every layer's block.
    energies: Tensor

    def __init__(self, weight: Schedule, stop: EarlyStop | None = None, name: str = "") -> None:
        super().__init__(weight, name)
        self.stop = stop

    def attach(self, energies: Float[Tensor, " layers"]) -> None:
        """Told once what is usual of every block: E_t‖y_t‖² over the calibration's tokens."""
        self.register_buffer("energies", energies.float(), persistent=False)
        if self.stop is not None:
            self.stop.begin(len(energies))

    def stopped(self) -> list[bool]:
        """Which layers have learnt what they can; it waits for the device where layers may stop, else for nothing."""
        return [False] * len(self.energies) if self.stop is None else self.stop.stopped.tolist()

    def on_optimizer_step(self, progress: float, sums: Mapping[str, Tensor], applied: Tensor) -> None:
        if self.stop is not None:
            self.stop.see(_nmse(sums), applied)

    def per_token(
        self, ours_ND: Float[Tensor, "tokens width"], theirs_ND: Float[Tensor, "tokens width"], place: int
    ) -> Float[Tensor, " tokens"]:
        """ℓ of every token, a differentiable function of the unit's output.

        Args:
            ours_ND: what the unit says, in fp32.
            theirs_ND: what the teacher's block says, in fp32.
            place: of the layer among those with a unit.
        """
        raise NotImplementedError(f"{type(self).__name__} has no per_token")

    def summary(self) -> dict[str, Any]:
        return {} if self.stop is None else {"stopped": self.stopped()}

    def metrics(self, errors: BlockErrors) -> dict[str, Tensor]:
        """This micro-batch's share of each metric: the shares are summed over micro-batches and ranks."""
        return {"error": errors.error, "energy": errors.energy}

    def logged(self, sums: dict[str, Tensor], progress: float, layers: Sequence[int]) -> dict[str, Tensor]:
        """The scalars to log of the step: NMSE of every layer, exactly, and their mean."""
        nmse_L = _nmse(sums)
        if self.stop is not None:  # what has stopped is as good as it was
            nmse_L = torch.where(self.stop.stopped, self.stop.mean, nmse_L)
        each = {f"layer-{layer:03d}": value for layer, value in zip(layers, nmse_L, strict=True)}
        return {"nmse": nmse_L.mean(), **each}


def _nmse(sums: Mapping[str, Tensor]) -> Float[Tensor, " layers"]:
    return sums["error"] / sums["energy"].clamp_min(torch.finfo(torch.float64).tiny)


@dataclass(frozen=True)
class ParameterTerm:
    """What a parameter loss adds to one optimizer step. Scalars are equal on every rank.

    Attributes:
        value: the loss without its weight.
        weight: λ as applied.
        gradients: (parameter, gradient of `weight · value` for this rank's shard of it).
        gradient_norm: norm over all shards of all gradients.
        metrics: further scalars to log.
    """

    value: Tensor
    weight: Tensor
    gradients: Sequence[tuple[nn.Parameter, Tensor]]
    gradient_norm: Tensor
    metrics: dict[str, Tensor]


class ParameterLoss(Loss):
    """A loss of the weights alone; its analytic gradient is added once per optimizer step."""

    kind = "parameter"

    def attach(self, student: nn.Module, reference: Tensor) -> None:
        """Bind to the student's parameter; `reference` is its value before training."""
        raise NotImplementedError

    def observe(self, progress: float, divisor: Tensor) -> None:
        """Look at the token losses' gradients in `.grad`, just before this loss's own are added.

        The optimizer will divide them by `divisor`, a scalar. They may be not finite; then nothing may be learnt.
        """

    def term(self, progress: float) -> ParameterTerm:
        """Value and gradients at the current weights."""
        raise NotImplementedError
