"""Slow, obvious float64 references for the dual penalty, written without looking at `dante/losses`.

One token at a time in Python, dense [tokens, vocab] logits, gradients by autograd. The controller is a loop over plain
floats.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Signals: numbers in [0, 1].


def entropy_of(p: Tensor) -> Tensor:
    """−Σ p log p of one distribution, nats; 0·log 0 = 0."""
    inside = p > 0
    return -(torch.where(inside, p, 0.0) * torch.where(inside, p, 1.0).log()).sum()


def slope_of_certainty(p: Tensor) -> Tensor:
    """f_i = p_i (log p_i + H) = −∂H/∂z_i of p = softmax(z): where a step that lowers the entropy moves the logits."""
    inside = p > 0
    return torch.where(inside, p * (torch.where(inside, p, 1.0).log() + entropy_of(p)), 0.0)


def predictive(logits: Tensor) -> Tensor:
    """H(softmax(z)) / log V of each token."""
    return torch.stack([entropy_of(torch.softmax(row, dim=0)) / math.log(len(row)) for row in logits])


def energy(hidden: Tensor) -> Tensor:
    """Entropy of h²/‖h‖² over log d, of each token."""
    return torch.stack([entropy_of(row**2 / (row**2).sum()) / math.log(len(row)) for row in hidden])


def gram_of_record(hidden: Tensor) -> Tensor:
    """Von Neumann entropy of the centred states' Gram matrix at trace one, over log min(T, d).

    One or two tokens: the centred states have rank 0 or 1, so the entropy is 0.
    """
    tokens, width = hidden.shape
    if tokens <= 2:
        return (0.0 * hidden).sum()
    # The Gram matrix's eigenvalues are squares of singular values; those are differentiable where the rank is short.
    singular = torch.linalg.svdvals(hidden - hidden.mean(dim=0))
    squares = singular[singular > 1e-12 * singular.max().detach()] ** 2
    return entropy_of(squares / squares.sum()) / math.log(min(tokens, width))


def gram(hidden: Tensor, record: Tensor) -> Tensor:
    """Its record's value for each token."""
    values = {r: gram_of_record(hidden[record == r]) for r in set(record.tolist())}
    return torch.stack([values[r] for r in record.tolist()])


def signal_of(name: str, logits: Tensor, hidden: Tensor, record: Tensor) -> Tensor:
    """A signal by its name."""
    return {
        "predictive": lambda: predictive(logits),
        "energy": lambda: energy(hidden),
        "gram": lambda: gram(hidden, record),
    }[name]()


# Guards: a number in [0, 1] per token, without gradient.


def label_is_argmax(p: Tensor, label: int) -> float:
    return 1.0 if p[label] >= p.max() else 0.0


def only_label_rises(p: Tensor, label: int) -> float:
    """The label is on top, and the runner-up's logit moves up by no more than the mean of p does."""
    if not label_is_argmax(p, label):
        return 0.0
    f = slope_of_certainty(p)
    runner_up = max((i for i in range(len(p)) if i != label), key=lambda i: float(p[i]))
    return 1.0 if f[runner_up] <= (p * f).sum() else 0.0


def label_probability(p: Tensor, label: int) -> float:
    return float(p[label])


def label_in_top5(p: Tensor, label: int) -> float:
    return 1.0 if sum(float(other) > float(p[label]) for other in p) < 5 else 0.0


def none(p: Tensor, label: int) -> float:
    return 1.0


GUARDS: dict[str, Callable[[Tensor, int], float]] = {
    guard.__name__: guard for guard in (label_is_argmax, only_label_rises, label_probability, label_in_top5, none)
}


def guard_of(name: str, logits: Tensor, labels: Tensor) -> Tensor:
    """a_t of each token."""
    rows = zip(torch.softmax(logits.detach(), dim=1), labels.tolist(), strict=True)
    return torch.tensor([GUARDS[name](p, label) for p, label in rows], dtype=logits.dtype)


# The penalty.


def excess(signal: Tensor, guard: Tensor, threshold: float) -> Tensor:
    """a_t [s_t − τ]₊ of each token."""
    terms = []
    for s, a in zip(signal, guard.tolist(), strict=True):
        terms.append(a * (s - threshold) if s.item() > threshold else 0.0 * s)
    return torch.stack(terms)


def penalty(
    hidden: Tensor,
    logits: Tensor,
    labels: Tensor,
    record: Tensor,
    signal: str,
    guard: str,
    threshold: float,
    step_tokens: int,
) -> Tensor:
    """(1/N) Σ a_t [s_t − τ]₊, without its coefficient; differentiable in `hidden` and whatever made `logits`."""
    s = signal_of(signal, logits, hidden, record)
    return excess(s, guard_of(guard, logits, labels), threshold).sum() / step_tokens


def quantile_threshold(signal: Sequence[float], difficult: float) -> float:
    """The smallest measured value that at most a share `difficult` of all measured values exceeds."""
    ordered = sorted(signal)
    return next(value for value in ordered if sum(s > value for s in ordered) <= difficult * len(ordered))


# The controller.


@dataclass
class Controller:
    """Dual variable of g ≤ 0, in Python floats: νPI, clipped to [0, maximum], and a linearised augmented Lagrangian."""

    k_i: float
    k_p: float
    nu: float
    maximum: float = math.inf
    augmentation: float = 0.0
    multiplier: float = 0.0
    smoothed: float = 0.0
    coefficient: float = 0.0

    def step(self, violation: float, share: float = 1.0, applied: bool = True) -> None:
        """After an optimizer step that had this violation; `coefficient` is what the next one uses."""
        if not applied:
            return
        before = self.smoothed
        self.smoothed = self.nu * before + (1.0 - self.nu) * violation
        moved = self.multiplier + share * self.k_i * violation
        resting = self.multiplier == 0.0 and violation < 0.0
        if not resting:
            moved += self.k_p * (self.smoothed - before)
        self.multiplier = min(max(moved, 0.0), self.maximum)
        self.coefficient = min(max(self.multiplier + self.augmentation * violation, 0.0), self.maximum)


def trace(controller: Controller, violations: Sequence[float], share: float = 1.0) -> list[tuple[float, float, float]]:
    """(λ, ξ, μ) after each step."""
    states = []
    for violation in violations:
        controller.step(violation, share)
        states.append((controller.multiplier, controller.smoothed, controller.coefficient))
    return states
