"""What a run costs in compute, teacher included: the arithmetic behind budgets, plan and report. Pure functions.

A method that trains less on more of the teacher's answers must not look cheap, so three parts are added up:

| part | tokens | FLOPs |
|---|---|---|
| training | prompt and answer tokens through the student, no padding | `model_flops`: 6 per parameter and token |
| generation | answer tokens that the teacher wrote | 2 · N · (prompt + answer tokens) |
| scoring | tokens that the teacher scored, where a loss reads its scores | 2 · N · (prompt + answer tokens) |

Training's 6 FLOPs per parameter and token (2 forward, 4 backward) and inference's 2 are those of Kaplan et al.,
"Scaling Laws for Neural Language Models" (2020), §2.1 [C]; N counts the parameters that a token goes through, of a
mixture of experts the active ones. Attention's products with a growing context are left out of all three alike [I].

A teacher's answer is charged once per distinct record that training draws, however often it is drawn and whoever
generated it when [I]: a smaller fit could have done with a smaller cache. Where one of several answers was kept, all of
them are charged, and the student's reading of them, on which the choice was made. Where a student began answers that
the teacher ended, all that it wrote is charged, too, and the teacher's own answers beside them are not charged again.
Held-out answers, answers that filters dropped and the samples behind self-consistency are not charged; the end-of-turn
token is not counted. Scores that are kept in files are charged likewise, once per answer; a teacher that runs beside
the student scores every token that is drawn, every time, and its LM head runs at supervised positions only, which
2 · N overstates a little.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["tokens", "flops"]
# A fit may miss its budget by this share before it says so.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Work:
    """Tokens, and FLOPs; None where the teacher's size is unknown."""

    tokens: int
    flops: float | None

    def __add__(self, other: "Work") -> "Work":
        flops_known = self.flops is not None and other.flops is not None
        return Work(self.tokens + other.tokens, (self.flops or 0.0) + (other.flops or 0.0) if flops_known else None)


NOTHING = Work(0, 0.0)


@dataclass(frozen=True)
class Compute:
    """The three parts.

    Attributes:
        training: of the student.
        generation: of the teacher's answers.
        scoring: by the teacher, of these answers or of every draw; by the student, of what it was chosen from.
        estimated: names of the parts that are not counted exactly.
    """

    training: Work
    generation: Work = NOTHING
    scoring: Work = NOTHING
    estimated: tuple[str, ...] = ()

    @property
    def total(self) -> Work:
        """All parts together."""
        return self.training + self.generation + self.scoring

    def spent(self, unit: Unit) -> float | int | None:
        """The total in a budget's unit; None where it is unknown."""
        return self.total.tokens if unit == "tokens" else self.total.flops

    def as_dict(self, budget: dict[str, Any] | None) -> dict[str, Any]:
        """The entry `compute` of `fit/summary.json`; `budget` is `{unit, amount}`, or None where none was set."""
        parts = {"training": self.training, "generation": self.generation, "scoring": self.scoring, "total": self.total}
        named = {name: {"tokens": work.tokens, "flops": work.flops} for name, work in parts.items()}
        given = budget or {"unit": None, "amount": None}
        return {"unit": given["unit"], "amount": given["amount"], **named, "estimated": list(self.estimated)}


def model_flops(body_parameters: int, head_parameters: int, tokens: int, supervised_tokens: int) -> float:
    """FLOPs of forward and backward: 6 per parameter and token, the LM head at supervised positions only.

    Recomputation under gradient checkpointing is not counted: MFU is about useful work.
    """
    return 6.0 * (body_parameters * tokens + head_parameters * supervised_tokens)


def training(body_parameters: int, head_parameters: int, tokens: int, supervised_tokens: int) -> Work:
    """The student's forward and backward; its head runs at supervised positions only."""
    return Work(tokens, model_flops(body_parameters, head_parameters, tokens, supervised_tokens))


def inference(parameters: float | int | None, prompt_tokens: float | int, answer_tokens: float | int) -> Work:
    """The teacher writes answers, or scores them: the prompt goes through it too, but only the answer is counted."""
    return Work(
        round(answer_tokens),
        None if parameters is None else forward_flops(parameters, round(prompt_tokens) + round(answer_tokens)),
    )


def forward_flops(parameters: float | int, tokens: int) -> float:
    """2 per parameter and token."""
    return 2.0 * parameters * tokens


def most_steps(price: Callable[[int], float | int], amount: float | int) -> int:
    """N with price(N) ≤ amount < price(N + 1), or 0 where one step costs more than the amount.

    `price` is asked seldom, because a plan of that many steps stands behind it: the amount's place between the two ends
    of a bracket is guessed by a line, every other time by the middle. The price must grow with the steps on the whole;
    where it does not at some step (another sample of records may be a little cheaper) N is one of several such numbers,
    and always the same one.

    Args:
        price: of a fit of so many steps, in the budget's unit.
        amount: above 0.
    """
    low, low_price = 0, 0.0
    high, high_price = 1, float(price(1))
    while high_price <= amount:
        low, low_price = high, high_price
        high, high_price = 2 * high, float(price(2 * high))
    middle = False
    while high - low > 1:
        guess = low + int((high - low) * (amount - low_price) / (high_price - low_price))
        guess = (low + high) // 2 if middle else min(max(guess, low + 1), high - 1)
        guess_price = float(price(guess))
        if guess_price <= amount:
            low, low_price = guess, guess_price
        else:
            high, high_price = guess, guess_price
        middle = not middle
    return low


def misses(found: float | int, amount: float | int) -> bool:
    """Whether a total is off the amount by more than the tolerance; a comparison asks the same."""
    return abs(found - amount) > TOLERANCE * amount
