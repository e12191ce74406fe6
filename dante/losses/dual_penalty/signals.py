"""Signals: how undecided is the student at a token? Each in [0, 1], 0 where it is decided.

| signal | per | what |
|---|---|---|
| `predictive` | token | H(p_θ) / log V: with a tied head, of the hidden state over the embedding space |
| `energy` | token | entropy of h²/‖h‖² over the d coordinates of the hidden state, / log d |
| `gram` | record | von Neumann entropy of the centred hidden states of one record's T tokens, / log min(T, d) |

h is the state that enters the LM head. All [I]: the Kai-3B-Instruct card says "embedding space entropy" and no more.
`predictive` is computed where the logits are, tile by tile; the functions here are those of hidden states. They are
differentiable, and only `predictive` comes with what `guards.py` says of wrong tokens: a hidden state moves all logits
at once.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

HiddenSignal = Callable[[Tensor, Tensor], Tensor]
# Shares below this count as 0: x log x does, and its slope must stay finite.
_SMALLEST = 1e-30


def energy(hidden_ND: Float[Tensor, "tokens width"], record_N: Int64[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """Entropy of each state's energy over its coordinates, in units of log d."""
    squares_ND = hidden_ND.square()
    share_ND = squares_ND / squares_ND.sum(1, keepdim=True).clamp_min(_SMALLEST)
    return _entropy(share_ND) / math.log(hidden_ND.shape[1])


def gram(hidden_ND: Float[Tensor, "tokens width"], record_N: Int64[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
    """Entropy of the spectrum of each record's centred states, given to each of its tokens.

    `ρ = H_c H_cᵀ / tr(H_c H_cᵀ)`, S = −tr ρ log ρ, in units of log min(T, d), eigenvalues in fp64. A record of one
    token has none and gets 0; one of two has rank 1, entropy 0. Centred states have rank T − 1 at most, so up to T = d
    the signal stays below log(T − 1) / log T: long records reach higher values than short ones.
    """
    signal_N = torch.zeros_like(hidden_ND[:, 0])
    for record in record_N.unique():
        rows = (record_N == record).nonzero()[:, 0]
        tokens, width = len(rows), hidden_ND.shape[1]
        if tokens < 2:
            continue
        states_TD = hidden_ND[rows].double()
        centred_TD = states_TD - states_TD.mean(0)
        gram = centred_TD @ centred_TD.T if tokens <= width else centred_TD.T @ centred_TD
        spectrum = torch.linalg.eigvalsh(gram / gram.diagonal().sum().clamp_min(_SMALLEST))
        value = _entropy(spectrum) / math.log(min(tokens, width))
        signal_N = signal_N.index_put((rows,), value.to(signal_N.dtype))
    return signal_N


def _entropy(shares: Tensor) -> Tensor:
    """−Σ q log q over the last dimension."""
    return -(shares * shares.clamp_min(_SMALLEST).log()).sum(-1)


#: None: computed on the tiles.
@dataclass(frozen=True)
class Words:
    """How a signal reads: behind "a token's signal", and on an axis."""

    phrase: str
    axis: str


WORDS = {
    "predictive": Words("entropy of its prediction over log V", "predictive entropy H / log V"),
    "energy": Words("entropy of its hidden state's energy over log d", "entropy of h² / ‖h‖², over log d"),
    "gram": Words("entropy of its answer's hidden states", "von Neumann entropy of an answer's hidden states"),
}
SIGNALS: dict[str, HiddenSignal | None] = {"predictive": None, "energy": energy, "gram": gram}
