"""Slow, obvious float64 references for losses, written without looking at `dante/losses`.

Everything here materialises [tokens, vocab] and loops over records in Python. Gradients come from autograd on these
dense expressions, and finite differences check autograd itself.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def dense_logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None = None, multiplier: float = 1.0, softcap: float | None = None
) -> Tensor:
    """All logits at once."""
    logits = multiplier * torch.einsum("nd,vd->nv", hidden, weight)
    if bias is not None:
        logits = logits + bias
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits


def token_losses(logits: Tensor, labels: Tensor) -> list[Tensor]:
    """−log p(label) of each token, from the definition of the softmax."""
    losses = []
    for row, label in zip(logits, labels.tolist(), strict=True):
        shifted = row - row.max().detach()
        losses.append(torch.log(torch.exp(shifted).sum()) - shifted[label])
    return losses


def ce(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over tokens."""
    losses = token_losses(logits, labels)
    return torch.stack(losses).sum() / len(losses)


def card_weight(entropy: float) -> float:
    """w(H) as the card prints it."""
    return 0.30 + 0.70 / (1 + math.exp(1.5 * (entropy - 1.5)))


def cwce_tokens(logits: Tensor, labels: Tensor, record: Tensor, entropy: Sequence[float]) -> Tensor:
    """Every token weighted by its record's w, over the number of tokens."""
    terms = [
        card_weight(entropy[r]) * loss for loss, r in zip(token_losses(logits, labels), record.tolist(), strict=True)
    ]
    return torch.stack(terms).sum() / len(terms)


def cwce_records(logits: Tensor, labels: Tensor, record: Tensor, entropy: Sequence[float]) -> Tensor:
    """Mean over each record's tokens, weighted, then the mean over records."""
    losses = token_losses(logits, labels)
    means = []
    for r in range(len(entropy)):
        own = [loss for loss, which in zip(losses, record.tolist(), strict=True) if which == r]
        means.append(card_weight(entropy[r]) * torch.stack(own).mean())
    return torch.stack(means).mean()


def entropy_of_predictions(logits: Tensor) -> Tensor:
    """Mean entropy of the predictive distributions: a loss that is not a function of labels."""
    p = torch.softmax(logits, dim=1)
    return -(p * torch.log(p)).sum(dim=1).mean()


def tea(embedding: Tensor, initial: Tensor, reduction: str) -> Tensor:
    """The anchor, by reduction."""
    squares = sum(((row - row0) ** 2).sum() for row, row0 in zip(embedding, initial, strict=True))
    if reduction == "row_mean":
        return squares / embedding.shape[0]
    if reduction == "relative":
        return squares / (initial**2).sum()
    return squares


def finite_difference(function: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of a scalar function with respect to every entry."""
    gradient = torch.zeros_like(at)
    flat, out = at.flatten(), gradient.view(-1)
    for i in range(flat.numel()):
        for sign in (1.0, -1.0):
            moved = flat.clone()
            moved[i] += sign * step
            out[i] += sign * function(moved.view_as(at)).item() / (2 * step)
    return gradient
