"""Sums and short problems whose answers can be checked: our own, with generated numbers, easy for a small model."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from dante.cache.prompts.pocket import Prompt
from dante.cache.prompts.pocket.family import load_topics
from dante.cache.prompts.rows import check_count
from dante.errors import DanteError

_TOPICS = load_topics("maths")
# How many steps are asked for is left open; answers of several sentences are what a selection looks at.
_ENDINGS = (
    "Explain your steps, then give the answer.",
    "Think step by step and end with the answer.",
    "Show how you work it out. The last line is the answer.",
)
# Draws of one wording before it is given up: numbers are few, so that some repeat.
_TRIES = 50


@dataclass(frozen=True)
class Problem:
    """One wording, the ranges of its numbers, and what is right."""

    text: str
    a: tuple[int, int]
    b: tuple[int, int]
    right: Callable[[int, int], int]


PROBLEMS = (
    Problem("What is {a} + {b}?", (3, 60), (3, 40), lambda a, b: a + b),
    Problem("What is {a} - {b}?", (30, 90), (3, 29), lambda a, b: a - b),
    Problem("What is {a} times {b}?", (2, 12), (2, 12), lambda a, b: a * b),
    Problem("What is {ab} divided by {b}?", (2, 12), (2, 12), lambda a, b: a),
    Problem("What is {a} + {b} + {a}?", (2, 20), (2, 20), lambda a, b: 2 * a + b),
    Problem("What is twice {a}, plus {b}?", (3, 25), (1, 15), lambda a, b: 2 * a + b),
    Problem("{p} has {a} {things} and gets {b} more. How many {things} does {p} have now?", (3, 40), (2, 30),
            lambda a, b: a + b),
    Problem("{p} has {a} {things} and gives {b} of them away. How many are left?", (20, 50), (2, 19),
            lambda a, b: a - b),
    Problem("There are {a} boxes with {b} {things} in each. How many {things} are there in all?", (2, 10), (2, 12),
            lambda a, b: a * b),
    Problem("{p} shares {ab} {things} equally among {b} friends. How many does each friend get?", (2, 12), (2, 9),
            lambda a, b: a),
    Problem("{p} is {a} years old. How old will {p} be in {b} years?", (5, 50), (2, 20), lambda a, b: a + b),
    Problem("What number comes next: {a}, {a1}, {a2}, {a3}?", (1, 20), (2, 9), lambda a, b: a + 4 * b),
    Problem("A ticket costs {a} euros. How much do {b} tickets cost?", (2, 15), (2, 9), lambda a, b: a * b),
    Problem("How many days are {a} weeks and {b} days?", (2, 9), (1, 6), lambda a, b: 7 * a + b),
    Problem("{p} reads {a} pages on Monday and {b} pages on Tuesday. How many pages is that?", (5, 40), (5, 40),
            lambda a, b: a + b),
)  # fmt: skip


class CheckedPrompts:
    """Problems with the right answer beside them (`reference`), in an order of the seed's.

    Args:
        count: how many different ones.
        seed: of numbers, names, endings and order.
    """

    licence = "Apache-2.0 (our own)"

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = check_count(count), seed

    def load(self) -> list[Prompt]:
        """The prompts; wordings are equally frequent.

        Raises:
            DanteError: there are not so many different ones.
        """
        assert self.count is not None
        draw, found = random.Random(self.seed), {}
        for number in range(self.count):
            problem = PROBLEMS[number % len(PROBLEMS)]
            for _ in range(_TRIES):
                prompt = _prompt(problem, draw)
                if prompt.prompt not in found:
                    found[prompt.prompt] = prompt
                    break
            else:
                raise DanteError(
                    f"there are not {self.count} different problems",
                    where="prompts.count",
                    allowed=f"about {len(found)}",
                    fix=f"prompts.count={len(found)}",
                )
        prompts = list(found.values())
        draw.shuffle(prompts)
        return prompts


def _prompt(problem: Problem, draw: random.Random) -> Prompt:
    a, b = draw.randint(*problem.a), draw.randint(*problem.b)
    words = {"p": draw.choice(_TOPICS["names"]), "things": draw.choice(_TOPICS["things"])}
    numbers = {"a": a, "b": b, "ab": a * b, "a1": a + b, "a2": a + 2 * b, "a3": a + 3 * b}
    text = f"{problem.text.format(**words, **numbers)} {draw.choice(_ENDINGS)}"
    return Prompt(text, "maths", "en", "checked", reference=str(problem.right(a, b)))
