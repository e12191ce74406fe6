"""What a loss sees of the vocabulary pass: one tile after the other, and at the end all hidden states."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from dante.losses.tokens import SparseTargets, SupervisedTokens


@dataclass
class Tile:
    """Logits of a few tokens, and the gradient that the losses ask for.

    A loss states its gradient with respect to the logits z through five accumulators, and the pass applies them in one
    sweep: `∂L/∂z = a·p + b·onehot(label) + q·p·log p + entries + dense`, p = softmax(z), with a, b, q per token, and
    entries at the ids of the teacher's sparse targets. Cross-entropy is a = c, b = −c; the entropy H = −Σ p log p is
    a = −c·H, q = −c.

    Attributes:
        start: index of the tile's first token among the micro-batch's supervised tokens.
        tokens: all supervised tokens of the micro-batch (rows `start : start + T` are this tile's).
        labels: label of each of the tile's tokens.
        log_z: log Σ_v exp(z_v).
        label_log_probability: log softmax(z)[label].
        label_is_argmax: no token is more likely than the label.
        exp: exp(z − max), shape [tile, vocab]; read-only, and valid only while the losses see the tile.
        exp_sum: Σ_v exp(z_v − max).
        wants_gradient: whether gradients will be used.
        kept: what losses kept of this tile, by name.
    """

    start: int
    tokens: SupervisedTokens
    labels: Int64[Tensor, " tile"]
    log_z: Float[Tensor, " tile"]
    label_log_probability: Float[Tensor, " tile"]
    label_is_argmax: Bool[Tensor, " tile"]
    exp: Float[Tensor, "tile vocab"] = field(repr=False)
    exp_sum: Float[Tensor, " tile"]
    wants_gradient: bool
    maybe_entropy: Tensor | None = None
    maybe_logits: Tensor | None = field(default=None, repr=False)
    maybe_teacher_logits: Tensor | None = field(default=None, repr=False)
    maybe_sparse_logits: Tensor | None = None
    kept: dict[str, Tensor] = field(default_factory=dict)
    probability_coefficient: Tensor | None = None
    label_coefficient: Tensor | None = None
    plogp_coefficient: Tensor | None = None
    entry_gradient: Tensor | None = None
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

    @property
    def entropy(self) -> Float[Tensor, " tile"]:
        """−Σ_v p_v log p_v of each token in nats. Present when a loss of the pass declares `needs_entropy`."""
        assert self.maybe_entropy is not None, "a loss that reads entropies must declare needs_entropy = True"
        return self.maybe_entropy

    @property
    def teacher_logits(self) -> Float[Tensor, "tile vocab"]:
        """The live teacher's logits of the tile, −∞ where only the student has an id; read-only.

        Present when a loss of the pass declares `needs` with `teacher_logits`.
        """
        assert self.maybe_teacher_logits is not None, "a loss that reads the teacher's logits must declare needs"
        return self.maybe_teacher_logits

    @property
    def sparse(self) -> SparseTargets:
        """The teacher's sparse targets of the tile. Present when a loss declares `needs` with `sparse`."""
        return self.tokens.teacher.sparse.rows(self.rows)

    @property
    def sparse_log_probabilities(self) -> Float[Tensor, "tile kept"]:
        """The student's log softmax(z) at the ids of the sparse targets; anything where an id is −1.

        Present when a loss of the pass declares `needs` with `sparse`.
        """
        assert self.maybe_sparse_logits is not None, "a loss that reads sparse targets must declare needs = {'sparse'}"
        return self.maybe_sparse_logits - self.log_z[:, None]

    def probabilities(self, rows: Int64[Tensor, " rows"] | slice = slice(None)) -> Float[Tensor, "rows vocab"]:
        """softmax(z) of some rows, a new tensor."""
        return self.exp[rows] / self.exp_sum[rows, None]

    def log_probabilities(self) -> Float[Tensor, "tile vocab"]:
        """log softmax(z), a new tensor."""
        return self.logits - self.log_z[:, None]

    def add_probability(self, coefficient: Float[Tensor, " tile"]) -> None:
        """Add `coefficient · softmax(z)` to the gradient."""
        self.probability_coefficient = _add(self.probability_coefficient, coefficient)

    def add_label(self, coefficient: Float[Tensor, " tile"]) -> None:
        """Add `coefficient · onehot(label)` to the gradient."""
        self.label_coefficient = _add(self.label_coefficient, coefficient)

    def add_entropy(self, coefficient: Float[Tensor, " tile"]) -> None:
        """Add the gradient of `coefficient · H`, `−coefficient · p (log p + H)`; rows with 0 are free on a CPU."""
        self.add_probability(-coefficient * self.entropy)
        self.plogp_coefficient = _add(self.plogp_coefficient, -coefficient)

    def add_entries(self, gradient: Float[Tensor, "tile kept"]) -> None:
        """Add to the gradient at the ids of the sparse targets; nothing is added where an id is −1."""
        self.entry_gradient = _add(self.entry_gradient, gradient)

    def keep(self, name: str, values: Tensor) -> None:
        """Keep a number per token for the loss that keeps it: it comes back as `kept[name]`, of all tokens."""
        self.kept[name] = values

    def add_gradient(self, gradient_TV: Float[Tensor, "tile vocab"]) -> None:
        """Add any gradient with respect to the logits. The tensor is owned by the tile from here on."""
        if self.dense_gradient is None:
            self.dense_gradient = gradient_TV
        else:
            self.dense_gradient.add_(gradient_TV)

    def zero(self) -> Float[Tensor, " tile"]:
        """A zero coefficient per token."""
        return torch.zeros_like(self.log_z)


@dataclass
class HiddenStates:
    """The hidden states that enter the LM head at a micro-batch's supervised tokens, when all tiles have been seen.

    Attributes:
        hidden: shape [tokens, width], fp32 (fp64 for fp64 inputs), before the head's multiplier.
        tokens: the supervised tokens.
        kept: what the loss kept of each token on the tiles; it may add to it.
        wants_gradient: whether gradients will be used.
    """

    hidden: Float[Tensor, "tokens width"]
    tokens: SupervisedTokens
    kept: dict[str, Tensor]
    wants_gradient: bool
    gradient: Tensor | None = field(default=None, repr=False)

    def add_gradient(self, gradient_ND: Float[Tensor, "tokens width"]) -> None:
        """Add to the gradient with respect to `hidden`."""
        self.gradient = _add(self.gradient, gradient_ND)


def _add(total: Tensor | None, term: Tensor) -> Tensor:
    return term if total is None else total + term


# Every tile reads the LM head and adds to its gradient once: at V = 128,256 and width 2,048 tiles of 64 tokens take 1.6
# times as long as tiles of 256. A GPU wants larger products still.
_TILE_BYTES = {"cpu": 128 * 2**20, "cuda": 512 * 2**20}


_MIN_TILE_TOKENS = 64


def tile_rows(tokens: int, most: int, together: Sequence[tuple[int, int]]) -> list[slice]:
    """The tokens of each tile: at most `most`, but what belongs together is never cut, and may make a tile longer.

    Args:
        tokens: of the micro-batch.
        most: tokens of a tile.
        together: first token and the one behind the last of each group that a loss has to see at once. What overlaps
            is one group.
    """
    groups: list[tuple[int, int]] = []
    for first, behind in sorted(together):
        if groups and first < groups[-1][1]:
            groups[-1] = groups[-1][0], max(behind, groups[-1][1])
        else:
            groups.append((first, behind))
    firsts, tiles, start = [first for first, _ in groups], [], 0
    while start < tokens:
        end = min(start + most, tokens)
        group = bisect.bisect_left(firsts, end) - 1  # the last one that begins before the cut
        if group >= 0 and groups[group][1] > end:
            first, behind = groups[group]
            end = first if first > start else behind
        tiles.append(slice(start, end))
        start = end
    return tiles


def auto_tile_tokens(vocab: int, device: torch.device) -> int:
    """Tokens per tile such that an fp32 tile of logits fits the device's byte budget."""
    fitting = _TILE_BYTES.get(device.type, _TILE_BYTES["cuda"]) // (4 * vocab)
    return max(_MIN_TILE_TOKENS, fitting // _MIN_TILE_TOKENS * _MIN_TILE_TOKENS)
