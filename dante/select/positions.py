"""Where in right and in wrong answers sentences of a type stand [C: DASD, Figure 6]."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from dante.select.labels import Type, Types

# Positions at which answers to fewer prompts have a sentence, on either side, are left out: their shares are noise.
LEAST = 10


@dataclass(frozen=True)
class Typed:
    """An answer whose sentences have types.

    Attributes:
        prompt: which prompt it answers; answers to one prompt are resampled together.
        right: whether it was checked and is right.
        types: of its sentences, in order.
    """

    prompt: str
    right: bool
    types: Types


@dataclass(frozen=True)
class Curves:
    """A type's share of the sentences at each position, in right and in wrong answers.

    Attributes:
        right: shares, position by position.
        wrong: likewise, as many.
        answers: how many answers had a sentence there, right and wrong.
        area: sum over positions of `right` − `wrong`, in percentage points.
        low: of its interval, over resampled prompts.
        high: likewise.
    """

    right: list[float]
    wrong: list[float]
    answers: list[tuple[int, int]]
    area: float
    low: float
    high: float


def curves(answers: Sequence[Typed], kind: Type, resamples: int, confidence: float, seed: int) -> Curves | None:
    """The two curves of a type, and the area between them.

    A sentence without a type counts in no share.

    Args:
        answers: checked ones.
        kind: of sentences.
        resamples: of prompts, for the interval.
        confidence: of the interval.
        seed: of the resampling.

    Returns:
        None where no position has answers to `LEAST` prompts on either side.
    """
    prompts, right, typed, hits = _tables(answers, kind)
    counts = np.array([typed[right == side].sum(0) for side in (True, False)])  # [2, positions]
    enough = np.array([_distinct(prompts[right == side], typed[right == side]) for side in (True, False)])
    few = np.flatnonzero(enough.min(0) < LEAST)
    reach = int(few[0]) if len(few) else counts.shape[1]
    if not reach:
        return None
    typed, hits = typed[:, :reach], hits[:, :reach]
    weights = np.ones((1, len(prompts)))
    whole = _shares(weights, prompts, right, typed, hits)
    generator = np.random.default_rng(seed)
    of_prompts = generator.multinomial(int(prompts.max()) + 1, np.full(int(prompts.max()) + 1, 1 / (prompts.max() + 1)),
                                       size=resamples)  # fmt: skip
    areas = _areas(_shares(of_prompts[:, prompts], prompts, right, typed, hits))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(areas, [tail, 1 - tail])
    return Curves(
        right=whole[0, 0].tolist(),
        wrong=whole[1, 0].tolist(),
        answers=[(int(a), int(b)) for a, b in zip(counts[0, :reach], counts[1, :reach], strict=True)],
        area=float(_areas(whole)[0]),
        low=float(low),
        high=float(high),
    )


def _tables(
    answers: Sequence[Typed], kind: Type
) -> tuple[
    Int64[np.ndarray, " answers"],
    Bool[np.ndarray, " answers"],
    Bool[np.ndarray, "answers positions"],
    Bool[np.ndarray, "answers positions"],
]:
    """Prompts as numbers, which are right, where a sentence has a type, and where it is this one."""
    names = {name: number for number, name in enumerate(dict.fromkeys(answer.prompt for answer in answers))}
    longest = max((len(answer.types) for answer in answers), default=0)
    padded = np.full((len(answers), longest), int(Type.NONE))
    for row, answer in zip(padded, answers, strict=True):
        row[: len(answer.types)] = answer.types
    prompts = np.array([names[answer.prompt] for answer in answers], dtype=np.int64)
    return prompts, np.array([answer.right for answer in answers], dtype=bool), padded != Type.NONE, padded == kind


def _shares(
    weights: np.ndarray, prompts: np.ndarray, right: np.ndarray, typed: np.ndarray, hits: np.ndarray
) -> Float[np.ndarray, "2 resamples positions"]:
    """Weighted shares of right and wrong answers; NaN where a resample has none."""
    sides = []
    for side in (right, ~right):
        of_side = weights[:, side].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            sides.append((of_side @ hits[side]) / (of_side @ typed[side]))
    return np.stack(sides)


def _distinct(
    prompts: Int64[np.ndarray, " some"], typed: Bool[np.ndarray, "some positions"]
) -> Int64[np.ndarray, " positions"]:
    """How many prompts have a typed sentence at each position."""
    return np.array([len(np.unique(prompts[column])) for column in typed.T], dtype=np.int64)


def _areas(shares: Float[np.ndarray, "2 resamples positions"]) -> Float[np.ndarray, " resamples"]:
    """NaN for a resample that lacks a position: it is left out of the interval."""
    return 100.0 * np.sum(shares[0] - shares[1], axis=-1)
