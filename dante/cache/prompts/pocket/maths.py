"""Arithmetic and word problems with generated numbers; every problem has a whole or simple answer."""

import random
from collections.abc import Callable

from dante.cache.prompts.pocket.family import Family, load_topics

TOPICS = load_topics("maths")

VARIANTS = 8

# Each entry: the wording, and ranges for its numbers a, b, c. {p} and {q} are names, {things} a plural noun.
PROBLEMS = [
    ("{p} has {a} {things} and gives {b} of them to {q}. How many are left?", (20, 60), (3, 18), (1, 1)),
    ("A box holds {b} {things}. How many {things} are in {a} boxes?", (3, 12), (6, 24), (1, 1)),
    ("{p} reads {a} pages a day. How many days does a book of {ab} pages take?", (8, 30), (4, 15), (1, 1)),
    ("A train travels {a} km per hour for {b} hours. How far does it go?", (60, 140), (2, 6), (1, 1)),
    (
        "{p} buys {a} {things} for {b} euros each and pays with a 100-euro note. What is the change?",
        (2, 8),
        (2, 11),
        (1, 1),
    ),
    (
        "{p} and {q} share {ab} {things} among {b} friends equally. How many does each friend get?",
        (4, 15),
        (3, 9),
        (1, 1),
    ),
    ("A film starts at {h}:15 and lasts {c} minutes. When does it end?", (1, 2), (1, 2), (50, 130)),
    ("A garden is {a} m long and {b} m wide. What are its area and its perimeter?", (6, 30), (3, 14), (1, 1)),
    ("{p} saves {b} euros every week. How much is saved after {a} weeks?", (5, 30), (4, 25), (1, 1)),
    ("There are {a} red and {b} blue {things} in a bag. What fraction of them is red?", (2, 12), (3, 12), (1, 1)),
    ("{p} is {a} years old. {q} is {b} years older. How old are they together?", (6, 30), (2, 12), (1, 1)),
    ("A recipe for {b} people needs {ab} g of flour. How much is needed for one person?", (40, 90), (3, 8), (1, 1)),
    (
        "A baker makes {a} rolls in the morning and {b} in the afternoon and sells {c}. How many remain?",
        (60, 120),
        (30, 80),
        (40, 85),
    ),
    (
        "{p} runs {b} km on each of {a} days and {c} km on one more day. What is the total distance?",
        (3, 9),
        (2, 8),
        (3, 12),
    ),
    ("A jug holds {a} litres. How many glasses of 250 ml can be filled from it?", (2, 9), (1, 1), (1, 1)),
    (
        "A bus has {a} passengers. At a stop {b} get off and {c} get on. How many are on the bus now?",
        (25, 50),
        (4, 18),
        (2, 15),
    ),
    ("{a} workers need {b} days for a job. How many days would twice as many workers need?", (2, 8), (4, 20), (1, 1)),
    (
        "{p} scored {a}, {b} and {c} points in three games. What is the average, rounded to one decimal?",
        (8, 25),
        (8, 25),
        (8, 25),
    ),
]

ARITHMETIC = [
    ("What is {a} + {b}?", (110, 980), (120, 890), (1, 1)),
    ("Calculate {ab} - {b}.", (12, 40), (13, 39), (1, 1)),
    ("Compute {a} times {b} and show one intermediate step.", (12, 49), (3, 9), (1, 1)),
    ("What is {ab} divided by {b}?", (7, 40), (3, 12), (1, 1)),
    ("Evaluate {a} + {b} * {c}. Mind the order of operations.", (4, 40), (2, 12), (2, 9)),
    ("What is {b} squared minus {a}?", (2, 30), (6, 15), (1, 1)),
    ("Which is larger, {a}/{b} or {b}/{c}? Explain briefly.", (2, 7), (8, 12), (13, 18)),
    ("Round {a}.{b} to the nearest ten.", (112, 890), (11, 98), (1, 1)),
    ("What is {a} % of {b}00?", (3, 45), (2, 12), (1, 1)),
    ("A jacket costs {b}0 euros and is reduced by {a} %. What is the new price?", (10, 40), (4, 15), (1, 1)),
    ("Convert {a}.5 km to metres.", (1, 40), (1, 1), (1, 1)),
    ("How many minutes are {a} hours and {b} minutes?", (2, 12), (5, 55), (1, 1)),
    ("Convert {a} kg to grams and {b} cm to metres.", (2, 30), (120, 900), (1, 1)),
    ("Solve for x: {b}x + {a} = {abc}", (2, 20), (2, 9), (1, 1)),
    ("Solve x - {a} = {b}.", (5, 60), (5, 60), (1, 1)),
    ("Continue the sequence with two numbers: {a}, {a1}, {a2}, {a3}", (2, 20), (3, 11), (1, 1)),
    ("What is the perimeter of a square with sides of {a} cm?", (4, 60), (1, 1), (1, 1)),
    ("What is the area of a triangle with base {a} cm and height {b} cm?", (4, 24), (4, 20), (1, 1)),
    ("Write {a} as a Roman numeral.", (4, 120), (1, 1), (1, 1)),
    ("Is {a} a prime number? Say how you know, in one sentence.", (21, 150), (1, 1), (1, 1)),
    ("List the factors of {a}.", (12, 96), (1, 1), (1, 1)),
    ("Find the average of {a}, {b} and {c}.", (4, 50), (4, 50), (4, 50)),
]


def families(seed: int) -> list[Family]:
    """Word problems, arithmetic, and short explanations of ideas."""
    return [
        _numbers("word_problem", PROBLEMS, seed, lambda text: text),
        _numbers("arithmetic", ARITHMETIC, seed + 1, lambda text: text),
        Family(
            "maths_idea",
            "maths",
            "en",
            [
                "Explain {} to a pupil in two sentences.",
                "Where do we meet {} in everyday life? One example.",
                "Make up one easy exercise about {} and solve it.",
            ],
            TOPICS["ideas"],
        ),
    ]


def _numbers(name: str, wordings: list, seed: int, finish: Callable[[str], str]) -> Family:
    """One template per wording: its variants, written out, are the topics of that template."""
    draw = random.Random(seed)
    texts = []
    for turn in range(VARIANTS):
        for wording, first, second, third in wordings:
            a, b, c = draw.randint(*first), draw.randint(*second), draw.randint(*third)
            p, q = draw.sample(TOPICS["names"], 2)
            fields = {"p": p, "q": q, "things": draw.choice(TOPICS["things"]), "h": draw.randint(10, 20), "turn": turn}
            fields |= {"ab": a * b, "abc": b * draw.randint(2, 12) + a}
            fields |= {"a1": a + b, "a2": a + 2 * b, "a3": a + 3 * b}
            texts.append(finish(wording.format(a=a, b=b, c=c, **fields)))
    return Family(name, "maths", "en", ["{}"], texts)
