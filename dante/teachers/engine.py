"""What every generation engine offers: open a teacher, turn a planned batch of prompts into generations."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dante.cache.uncertainty import mean_entropy_bounds
from dante.teachers.offsets import token_ends
from dante.teachers.repetition import RepetitionLimit


@dataclass(frozen=True)
class Decoding:
    """How a teacher answers.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus mass; 1.0 keeps everything.
        top_k: 0 keeps everything.
        max_new_tokens: an answer that is longer is cut off with finish reason `length`.
        samples: answers per prompt (1 for greedy).
        logprobs: K, how many log-probabilities per position the entropy bounds are computed from.
        repetition: when an answer that loops is ended early; None lets it run to the limit.
    """

    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int
    samples: int
    logprobs: int
    repetition: RepetitionLimit | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Request:
    """One answer to generate: the rendered prompt's token ids and the sampling seed."""

    prompt_ids: list[int]
    seed: int


@dataclass(frozen=True)
class Generation:
    """One answer.

    Attributes:
        text: without the end-of-turn token.
        finish_reason: `stop`, `length` or `repetition`.
        token_logprobs: chosen tokens' log-probabilities at temperature 1; end-of-turn entry dropped.
        token_ends: end offset of each of those tokens in the UTF-8 bytes of `text`.
        output_entropy: lower bound, mean nats per token of the text; 0 for an empty text.
        output_entropy_upper: upper bound.
    """

    text: str
    finish_reason: str
    token_logprobs: list[float]
    token_ends: list[int]
    output_entropy: float
    output_entropy_upper: float


@runtime_checkable
class Engine(Protocol):
    """A context manager around a loaded teacher.

    `open` loads the model (`resources`: `python`, `threads`, `device`, …; what an engine does not know it ignores);
    `generate` yields `(index into requests, Generation)` in the order in which answers end. The batch handed over is
    run as one batch: in bfloat16 greedy text depends on the composition of the batch, so the caller plans it.
    """

    def open(self, model: str, revision: str | None, resources: dict[str, Any], log: Path) -> "Engine": ...

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[tuple[int, Generation]]: ...

    def settings(self) -> dict[str, Any]:
        """Name, dtype and whatever else of its parameters decides the numbers; known before it is opened."""
        ...

    @property
    def version(self) -> str:
        """Version of the library behind it; known once it is open."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> "Engine": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def to_generation(
    tokenizer: Any,
    token_ids: list[int],
    logprobs: list[float],
    top_logprobs: list[list[float]],
    finish_reason: str,
    stop_ids: set[int],
    vocabulary: int,
) -> Generation:
    """Raw tokens and log-probabilities → a `Generation`; the end-of-turn token and its entries are dropped.

    Args:
        tokenizer: the teacher's.
        token_ids: generated ids, with the end-of-turn token if the engine returns it.
        logprobs: chosen tokens' log-probabilities at temperature 1, one per id.
        top_logprobs: per id the K largest ones in falling order.
        finish_reason: `stop`, `length` or `repetition`.
        stop_ids: ids that end a turn.
        vocabulary: V, for the upper bound.
    """
    count = len(token_ids)
    while count and token_ids[count - 1] in stop_ids:
        count -= 1
    text, ends = token_ends(tokenizer, token_ids[:count])
    lower = upper = 0.0
    if count:
        lower, upper = mean_entropy_bounds(np.asarray(top_logprobs[:count], dtype=np.float64), vocabulary)
    return Generation(text, finish_reason, [float(x) for x in logprobs[:count]], ends, lower, upper)
