"""Problems with several programs each → items and scores of pass@k."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dante.evaluate.foreign.result import Score
from dante.statistics.item import Item
from dante.statistics.pass_at_k import pass_at_k
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


def items_of(problems: Sequence[Problem], ks: Sequence[int]) -> list[Item]:
    """Every problem with its estimate for those k that all problems have programs for."""
    fewest = min(len(problem.passed) for problem in problems)
    return [
        Item(
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


def scores_of(items: Sequence[Item], slices: Sequence[str], said: str) -> list[Score]:
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


def _score(items: Sequence[Item], metric: str, part: str, said: str) -> Score:
    over_problems = mean(np.array([item.values[metric][0] for item in items]))
    return Score(
        metric, over_problems.value, over_problems.stderr, len(items), part,
        said=f"{said} {metric.replace('_at_', '@')}",
    )  # fmt: skip
