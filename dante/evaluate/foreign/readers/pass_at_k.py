"""pass@k of problems with several programs each: 1 − C(n − c, k) / C(n, k), of n programs of which c pass.

The unbiased estimator of the probability that one of k programs passes. Source: Chen et al., "Evaluating Large Language
Models Trained on Code" (2021), equation 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from dante.evaluate.foreign.result import ForeignItem, Score
from dante.statistics.ratio import mean


@dataclass(frozen=True)
class Problem:
    """One problem and which of its programs have passed.

    Attributes:
        id: unique in its task.
        text: identity of the problem.
        passed: per program.
        slices: that it belongs to.
    """

    id: str
    text: str
    passed: Sequence[bool]
    slices: tuple[str, ...] = ()


def pass_at_k(n: int, c: int, k: int) -> float:
    """The probability that one of k programs passes, from n programs of which c pass; 1 ≤ k ≤ n."""
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"n={n}, c={c}, k={k}")
    return 1 - comb(n - c, k) / comb(n, k)


def items_of(problems: Sequence[Problem], ks: Sequence[int]) -> list[ForeignItem]:
    """Every problem with its estimate for those k that all problems have programs for."""
    fewest = min(len(problem.passed) for problem in problems)
    return [
        ForeignItem(
            problem.id,
            problem.text,
            {
                f"pass_at_{k}": (pass_at_k(len(problem.passed), sum(problem.passed), k), 1.0)
                for k in sorted(set(ks))
                if k <= fewest
            },
            problem.slices,
        )
        for problem in problems
    ]


def scores_of(items: Sequence[ForeignItem], slices: Sequence[str], said: str) -> list[Score]:
    """Means over problems with their standard errors: of all, then per slice.

    Args:
        items: with the same metrics each.
        slices: that get scores of their own.
        said: the harness's name of the task.
    """
    return [
        _score([item for item in items if not part or part in item.slices], metric, part, said)
        for part in ("", *slices)
        for metric in items[0].values
    ]


def _score(items: Sequence[ForeignItem], metric: str, part: str, said: str) -> Score:
    over_problems = mean(np.array([item.values[metric][0] for item in items]))
    return Score(
        metric, over_problems.value, over_problems.stderr, len(items), part,
        said=f"{said} {metric.replace('_at_', '@')}",
    )  # fmt: skip
