"""One tile of the vocabulary pass, as a loss sees it."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dante.losses.base import SupervisedTokens


@dataclass
class Tile:
    """Logits of a few tokens, and the gradient that the losses ask for.

    A loss states its gradient with respect to the logits z through three accumulators, and the pass applies them in one
    sweep: `∂L/∂z = a·softmax(z) + b·onehot(label) + dense`, with a, b per token. Cross-entropy is a = c, b = −c.

    Attributes:
        start: index of the tile's first token among the micro-batch's supervised tokens.
        tokens: all supervised tokens of the micro-batch (rows `start : start + T` are this tile's).
        labels: label of each of the tile's tokens.
        log_z: log Σ_v exp(z_v).
        label_log_probability: log softmax(z)[label].
        wants_gradient: whether gradients will be used.
    """

    start: int
    tokens: SupervisedTokens
    labels: Int64[Tensor, " tile"]
    log_z: Float[Tensor, " tile"]
    label_log_probability: Float[Tensor, " tile"]
    wants_gradient: bool
    maybe_logits: Tensor | None = None
    probability_coefficient: Tensor | None = None
    label_coefficient: Tensor | None = None
    dense_gradient: Tensor | None = field(default=None, repr=False)

    @property
    def rows(self) -> slice:
        """The tile's rows among the micro-batch's supervised tokens."""
        return slice(self.start, self.start + self.labels.shape[0])

    @property
    def logits(self) -> Float[Tensor, "tile vocab"]:
        """The tile's logits; read-only. Present when a loss of the pass declares `needs_logits`."""
        assert self.maybe_logits is not None, "a loss that reads logits must declare needs_logits = True"
        return self.maybe_logits

    def log_probabilities(self) -> Float[Tensor, "tile vocab"]:
        """log softmax(z), a new tensor."""
        return self.logits - self.log_z[:, None]

    def add_probability(self, coefficient: Float[Tensor, " tile"]) -> None:
        """Add `coefficient · softmax(z)` to the gradient."""
        self.probability_coefficient = _add(self.probability_coefficient, coefficient)

    def add_label(self, coefficient: Float[Tensor, " tile"]) -> None:
        """Add `coefficient · onehot(label)` to the gradient."""
        self.label_coefficient = _add(self.label_coefficient, coefficient)

    def add_gradient(self, gradient_TV: Float[Tensor, "tile vocab"]) -> None:
        """Add any gradient with respect to the logits. The tensor is owned by the tile from here on."""
        if self.dense_gradient is None:
            self.dense_gradient = gradient_TV
        else:
            self.dense_gradient.add_(gradient_TV)

    def zero(self) -> Float[Tensor, " tile"]:
        """A zero coefficient per token."""
        return torch.zeros_like(self.log_z)


def _add(total: Tensor | None, term: Tensor) -> Tensor:
    return term if total is None else total + term
