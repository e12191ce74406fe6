"""Types of sentences by what teacher, student and, after training, the distilled model say of them [C: DASD].

With sentence probabilities p_T, p_S, p_D (geometric means over tokens) and Δ = p_T − p_S, a difference and no ratio:

- before training: *teacher* if Δ > β, *student* if −Δ > β, else *common*;
- after training, in this order [S]: *shared* if all three lie within α of each other, *teacher* if Δ > β, *student* if
  −Δ > β, else *boosted*.

A sentence in which a model ends no token has no probability there, and no type.
"""

from enum import IntEnum

import numpy as np
from jaxtyping import Float, Int8

# β that gave the paper's cleanest classes; 0.05 and 0.15 still beat random [S]. α is not published: β is taken [I].
GRID = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
_BINS = 1000


class Type(IntEnum):
    """Of a sentence; `NONE` has none."""

    NONE = -1
    TEACHER = 0
    STUDENT = 1
    COMMON = 2
    SHARED = 3
    BOOSTED = 4

    @property
    def word(self) -> str:
        return self.name.lower()


BEFORE = (Type.TEACHER, Type.STUDENT, Type.COMMON)
AFTER = (Type.TEACHER, Type.STUDENT, Type.SHARED, Type.BOOSTED)

Probabilities = Float[np.ndarray, " sentences"]
Types = Int8[np.ndarray, " sentences"]


def before_training(teacher: Probabilities, student: Probabilities, beta: float) -> Types:
    """Three types, from two models."""
    gap = teacher - student
    types = np.full(len(gap), Type.COMMON, dtype=np.int8)
    types[gap > beta] = Type.TEACHER
    types[-gap > beta] = Type.STUDENT
    types[np.isnan(gap)] = Type.NONE
    return types


def after_training(
    teacher: Probabilities, student: Probabilities, distilled: Probabilities, alpha: float, beta: float
) -> Types:
    """Four types, from three models."""
    three = np.stack([teacher, student, distilled])
    gap = teacher - student
    types = np.full(len(gap), Type.BOOSTED, dtype=np.int8)
    types[-gap > beta] = Type.STUDENT
    types[gap > beta] = Type.TEACHER
    with np.errstate(invalid="ignore"):
        types[three.max(0) - three.min(0) <= alpha] = Type.SHARED
    types[np.isnan(three).any(0)] = Type.NONE
    return types


def automatic_beta(teacher: Probabilities, student: Probabilities) -> float:
    """β from the data, no training: the threshold that divides |Δ| best in two (Otsu 1979) [I].

    The paper says "determined adaptively, training-free" and not how. Otsu's threshold is the one between whose two
    sides the variance of |Δ| is largest; it is read off a histogram of 1,000 bins.
    """
    gaps = np.abs(teacher - student)
    counts = np.histogram(gaps[~np.isnan(gaps)], bins=_BINS, range=(0.0, 1.0))[0].astype(np.float64)
    if not counts.sum():
        return float("nan")
    middles = (np.arange(_BINS) + 0.5) / _BINS
    below, mass_below = np.cumsum(counts), np.cumsum(counts * middles)
    above, mass_above = counts.sum() - below, (counts * middles).sum() - mass_below
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (mass_below / below - mass_above / above) ** 2
    best = int(np.argmax(np.nan_to_num(between)))
    return float((best + 1) / _BINS)


def shares(types: Types, kinds: tuple[Type, ...]) -> dict[str, float]:
    """Share of each type among the sentences that have one."""
    typed = types[types != Type.NONE]
    return {kind.word: float((typed == kind).mean()) if len(typed) else 0.0 for kind in kinds}


def shares_over_grid(teacher: Probabilities, student: Probabilities, beta: float) -> dict[str, dict[str, float]]:
    """Shares of the types before training by β as text: the one that was used, and those of the grid."""
    return {f"{value:g}": shares(before_training(teacher, student, value), BEFORE) for value in sorted({*GRID, beta})}
