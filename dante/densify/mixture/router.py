"""A linear router that says how loud each expert would be: ridge regression from the block's input to output norms [I].

The stock router is a sigmoid with normalised weights. Small logits ε·z give weights of 1/k up to ε·z/2, so with a
scaling of k every chosen expert enters almost exactly once, as in the dense model; the order of z decides who is
chosen. Its constant part goes into the bias that selects without weighing.

Shape suffixes: T tokens, D width, E experts.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# Weights differ from 1/k by some 1e-5 of themselves; steps of fp32 around one half are 50 times finer than ε/4.
EPSILON = 1e-5


@dataclass(frozen=True)
class LinearRouter:
    """What a router of zeros becomes.

    Attributes:
        weight: of the logits.
        bias: added to sigmoid(logits) for the choice.
    """

    weight: Float[Tensor, "experts width"]
    bias: Float[Tensor, " experts"]


def fit_router(
    inputs_TD: Float[Tensor, "tokens width"], loudness_TE: Float[Tensor, "tokens experts"], ridge: float
) -> LinearRouter:
    """The router whose logits are ε times the predicted loudness, in units of its deviation.

    Args:
        inputs_TD: of the block.
        loudness_TE: norm of every expert's output.
        ridge: penalty, in units of the mean of the diagonal.
    """
    inputs, wanted = inputs_TD.double(), loudness_TE.double()
    mean_D, mean_E = inputs.mean(0), wanted.mean(0)
    centred = inputs - mean_D
    gram_DD = centred.T @ centred
    gram_DD.diagonal().add_(ridge * gram_DD.diagonal().mean())
    slope_DE = torch.linalg.solve(gram_DD, centred.T @ (wanted - mean_E))
    constant_E = mean_E - mean_D @ slope_DE
    unit = EPSILON / (inputs @ slope_DE + constant_E).std()
    # sigmoid(ε z) ≈ ½ + ε z / 4: a constant in the bias is worth as much as one in the logits.
    return LinearRouter((slope_DE.T * unit), constant_E * unit / 4)
