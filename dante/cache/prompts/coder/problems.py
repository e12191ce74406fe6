"""Word problems of two to four steps with generated numbers and the right answer beside them."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from dante.cache.prompts.pocket import Prompt
from dante.cache.prompts.pocket.family import load_topics

_TOPICS = load_topics("maths")
_ENDINGS = (
    "Work it out step by step. The last line is the answer.",
    "Show each step in one short line and end with the answer.",
    "Explain briefly how you get there, then give the answer as a number.",
)
VARIANTS = 28


@dataclass(frozen=True)
class Problem:
    """One wording, the ranges of its numbers, and what is right: a whole number."""

    text: str
    a: tuple[int, int]
    b: tuple[int, int]
    c: tuple[int, int]
    right: Callable[[int, int, int], int]


PROBLEMS = (
    Problem("{p} buys {a} packs of {things} with {b} in each and gives away {c}. How many {things} are left?",
            (3, 9), (6, 12), (2, 15), lambda a, b, c: a * b - c),
    Problem("{p} earns {a} euros an hour and works {b} hours a day for {c} days. How much is that in all?",
            (9, 25), (3, 8), (2, 6), lambda a, b, c: a * b * c),
    Problem("A shop sells {a} {things} on Monday, twice as many on Tuesday and {c} fewer than on Tuesday on Wednesday. "
            "How many is that in three days?", (12, 40), (1, 1), (2, 11), lambda a, b, c: 5 * a - c),
    Problem("{p} has {a} euros. A book costs {b} euros and a pen {c} euros. How much is left after buying one book and "
            "two pens?", (40, 90), (8, 20), (1, 6), lambda a, b, c: a - b - 2 * c),
    Problem("A tank holds {a}0 litres. Every hour {b} litres flow in and {c} litres flow out. It is empty at first. "
            "How many litres does it hold after three hours?", (20, 60), (20, 40), (3, 18),
            lambda a, b, c: 3 * (b - c)),
    Problem("{p} is {a} years old and {q} is {b} years younger. How old will both be together in {c} years?",
            (20, 50), (2, 15), (2, 12), lambda a, b, c: 2 * a - b + 2 * c),
    Problem("A class forms {a} groups of {b} pupils. Every group gets {c} {things}. How many {things} are needed?",
            (4, 8), (3, 6), (2, 9), lambda a, b, c: a * c),
    Problem("{p} runs {a} km on each of {b} days and walks {c} km on the day after. How many km is that in all?",
            (3, 12), (3, 6), (4, 15), lambda a, b, c: a * b + c),
    Problem("A ticket costs {a} euros for adults and {b} euros for children. What do {c} adults and three children "
            "pay?",
            (9, 20), (4, 8), (2, 6), lambda a, b, c: a * c + 3 * b),
    Problem("{p} reads {a} pages a day. The book has {ab} pages, and {p} has read for {c} days. How many pages are "
            "left?",
            (10, 30), (9, 15), (2, 8), lambda a, b, c: a * b - a * c),
    Problem("A farmer has {a} rows of {b} trees. {c} trees fall in a storm. Each of the others gives two baskets of "
            "pears. How many baskets is that?", (4, 12), (6, 14), (2, 9), lambda a, b, c: 2 * (a * b - c)),
    Problem("{p} puts {a} {things} into each of {b} boxes and has {c} left over. How many {things} were there?",
            (6, 24), (3, 11), (1, 5), lambda a, b, c: a * b + c),
    Problem("A train leaves with {a} passengers. At the first stop {b} get on, at the second stop {c} get off. "
            "How many are on the train then?", (30, 60), (10, 20), (3, 25), lambda a, b, c: a + b - c),
    Problem("{p} saves {a} euros a week and spends {b} euros every month of four weeks. How much is saved after {c} "
            "months?", (15, 40), (5, 30), (2, 6), lambda a, b, c: c * (4 * a - b)),
    Problem("A rectangle is {a} m long and {b} m wide. A fence costs {c} euros per metre. What does a fence around it "
            "cost?", (8, 30), (4, 15), (2, 9), lambda a, b, c: 2 * (a + b) * c),
    Problem("{p} bakes {a} trays of {b} cookies. {q} eats {c}, and the rest goes into bags of one dozen or fewer. How "
            "many cookies are left for the bags?", (3, 6), (8, 14), (3, 10), lambda a, b, c: a * b - c),
    Problem("One machine makes {a} parts an hour, another {b}. How many parts do both make in {c} hours?",
            (12, 40), (10, 35), (3, 8), lambda a, b, c: (a + b) * c),
    Problem("{p} has {a} {things}, {q} has {b} more than {p}, and a friend has as many as both. How many have all "
            "three?",
            (8, 30), (3, 12), (1, 1), lambda a, b, c: 2 * (2 * a + b)),
    Problem("A box weighs {a} kg empty and holds {b} bottles of {c} kg. What do two full boxes weigh?",
            (1, 4), (6, 12), (1, 3), lambda a, b, c: 2 * (a + b * c)),
    Problem("A film lasts {a} minutes and {b} breaks of {c} minutes are made. It begins at noon. How many minutes "
            "after noon does it end?", (80, 150), (1, 3), (5, 15), lambda a, b, c: a + b * c),
    Problem("{p} cuts a rope of {ab} cm into pieces of {b} cm and loses {c} pieces. How many pieces are left?",
            (9, 20), (5, 12), (2, 6), lambda a, b, c: a - c),
    Problem("{a} friends share a bill of {ab} euros equally. {p} adds a tip of {c} euros to the own share. What does "
            "{p} pay?", (3, 8), (9, 25), (1, 5), lambda a, b, c: b + c),
    Problem("A phone costs {a}0 euros. It is reduced by half, and then by {c} euros more. What does it cost now?",
            (20, 60), (1, 1), (5, 30), lambda a, b, c: 5 * a - c),
    Problem("{p} types {a} words a minute and {q} {b}. How many more words does {p} type in {c} minutes?",
            (45, 80), (25, 44), (3, 12), lambda a, b, c: (a - b) * c),
)  # fmt: skip


def prompts(draw: random.Random) -> list[Prompt]:
    """Every problem with several draws of numbers, names and endings."""
    return [_prompt(problem, draw) for problem in PROBLEMS for _ in range(VARIANTS)]


def _prompt(problem: Problem, draw: random.Random) -> Prompt:
    a, b, c = draw.randint(*problem.a), draw.randint(*problem.b), draw.randint(*problem.c)
    first, second = draw.sample(_TOPICS["names"], 2)
    text = problem.text.format(a=a, b=b, c=c, ab=a * b, p=first, q=second, things=draw.choice(_TOPICS["things"]))
    right = str(problem.right(a, b, c))
    return Prompt(f"{text} {draw.choice(_ENDINGS)}", "maths", "en", "steps", reference=right)
