"""What every generation engine offers: open a teacher, turn a planned batch of prompts into generations."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dante.errors import DanteError
from dante.teachers.uncertainty import mean_entropy_bounds
from dante.text.repetition import RepetitionLimit
from dante.text.tokens.offsets import ends_of_pieces, token_ends

# Settings that came later: they are part of an answer's identity only where they are used.
LATER = ("stop", "special_tokens")


@dataclass(frozen=True)
class Decoding:
    """How a teacher answers.

    Attributes:
        temperature: 0 is greedy; a list answers every prompt at each of its temperatures (see `each`).
        top_p: nucleus mass; 1.0 keeps everything.
        top_k: 0 keeps everything.
        max_new_tokens: an answer that is longer is cut off with finish reason `length`.
        samples: answers per prompt and temperature (greedy gives one, whatever is asked for).
        logprobs: K, how many log-probabilities per position the entropy bounds are computed from.
        repetition: when an answer that loops is ended early; None lets it run to the limit.
        stop: strings that end an answer; neither they nor what follows belongs to its text.
        special_tokens: special tokens inside an answer are part of its text: the thinking delimiters of some models.
    """

    temperature: float | list[float]
    top_p: float
    top_k: int
    max_new_tokens: int
    samples: int
    logprobs: int
    repetition: RepetitionLimit | None
    stop: list[str] = field(default_factory=list)
    special_tokens: bool = False

    def __post_init__(self) -> None:
        temperatures = self.temperature
        if isinstance(temperatures, list) and (not temperatures or len(set(temperatures)) != len(temperatures)):
            raise DanteError(
                f"temperatures {temperatures}",
                where="cache.source.decoding.temperature",
                allowed="distinct numbers >= 0",
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values; settings that were not there in an earlier version are left out where they are unused."""
        return {name: value for name, value in asdict(self).items() if value or name not in LATER}

    def each(self) -> list["Decoding"]:
        """One decoding per temperature: engines are given nothing else."""
        temperatures = self.temperature if isinstance(self.temperature, list) else [self.temperature]
        return [replace(self, temperature=t, samples=self.samples if t else 1) for t in temperatures]

    @property
    def heat(self) -> float:
        """The temperature of a decoding that has one."""
        assert not isinstance(self.temperature, list), "ask each() first"
        return self.temperature


@dataclass(frozen=True)
class Request:
    """One answer to generate.

    Attributes:
        prompt_ids: the rendered prompt in the teacher's tokens, up to the place where the answer goes on.
        seed: of the sampling.
        messages: the same prompt as chat messages, for servers that render it themselves.
        prefix: beginning of the answer that is given (already part of `prompt_ids`, not of `messages`).
        chat: template variables that `prompt_ids` were rendered with, for such servers.
        most_tokens: of this answer, where it may have fewer than the decoding's `max_new_tokens`; None: as many.
    """

    prompt_ids: list[int]
    seed: int
    messages: list[dict[str, str]] = field(default_factory=list)
    prefix: str = ""
    chat: dict[str, Any] = field(default_factory=dict)
    most_tokens: int | None = None

    def limit(self, decoding: Decoding) -> int:
        """New tokens at which this answer is cut off."""
        return min(self.most_tokens or decoding.max_new_tokens, decoding.max_new_tokens)


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


@dataclass(frozen=True)
class Scored:
    """What a teacher thinks of a given text, per token: natural log-probabilities at temperature 1.

    Attributes:
        token_logprobs: of the tokens that stand there.
        top_logprobs: the K largest ones in falling order.
        top_ids: whose they are.
    """

    token_logprobs: list[float]
    top_logprobs: list[list[float]]
    top_ids: list[list[int]]


@runtime_checkable
class Engine(Protocol):
    """A context manager around a loaded teacher.

    `open` loads the model (`resources`: `python`, `threads`, `device`, …; what an engine does not know it ignores);
    `generate` yields `(index into requests, Generation)` in the order in which answers end. The batch handed over is
    run as one batch: in bfloat16 greedy text depends on the composition of the batch, so the caller plans it.
    `score` reads given token ids (`(ids, start)`: from position `start` on) and yields one `Scored` each, in order.

    Attributes:
        keeps_answers: answers of a batch that failed midway are worth keeping, because they do not depend on the
            others (a server composes its own batches).

    Three more are optional: `loads_model`, False where `open` only names a model that somebody else has loaded (a
    server); `max_logprobs`, the largest K that `score` can be asked for, and `full_logprobs(ids, start)`,
    log-probabilities over the whole vocabulary.
    """

    keeps_answers: bool

    def open(self, model: str, revision: str | None, resources: dict[str, Any], log: Path) -> "Engine": ...

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[tuple[int, Generation]]: ...

    def score(self, sequences: list[tuple[list[int], int]], k: int) -> Iterator[Scored]: ...

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
    decoding: Decoding | None = None,
) -> Generation:
    """Raw tokens and log-probabilities → a `Generation`; the end-of-turn token and its entries are dropped.

    Where a stop string ends the text, tokens that begin behind it are dropped, and a token that straddles the border
    keeps its entries and ends where the text does.

    Args:
        tokenizer: the teacher's.
        token_ids: generated ids, with the end-of-turn token if the engine returns it.
        logprobs: chosen tokens' log-probabilities at temperature 1, one per id.
        top_logprobs: per id the K largest ones in falling order.
        finish_reason: `stop`, `length` or `repetition`.
        stop_ids: ids that end a turn.
        vocabulary: V, for the upper bound.
        decoding: what ends an answer and what belongs to its text; None: no stop strings, no special tokens.
    """
    stop = decoding.stop if decoding else ()
    count = len(token_ids)
    while count and token_ids[count - 1] in stop_ids:
        count -= 1
    text, ends = token_ends(tokenizer, token_ids[:count], special=bool(decoding and decoding.special_tokens))
    stop_positions = [at for string in stop if (at := text.find(string)) >= 0]
    if stop_positions:
        text = text[: min(stop_positions)]
        total = len(text.encode("utf-8"))
        count = next((i for i, end in enumerate(ends, start=1) if end >= total), count) if total else 0
        ends, finish_reason = [min(end, total) for end in ends[:count]], "stop"
    lower = upper = 0.0
    if count:
        lower, upper = mean_entropy_bounds(np.asarray(top_logprobs[:count], dtype=np.float64), vocabulary)
    return Generation(text, finish_reason, [float(x) for x in logprobs[:count]], ends, lower, upper)


def generation_from_bytes(
    text: str,
    pieces: Sequence[bytes],
    logprobs: Sequence[float],
    top_logprobs: Sequence[Sequence[float]],
    finish_reason: str,
    vocabulary: int,
) -> Generation:
    """A `Generation` from the bytes of its tokens, without token ids.

    Tokens that begin behind the text (the end-of-turn token, a stop string) are dropped when the answer stopped; an
    answer that was cut off keeps all of them, and bytes that never became a character belong to the last one.

    Args:
        text: the answer, without the end-of-turn token.
        pieces: bytes of each token; of a character that several tokens share, the last one may carry all bytes.
        logprobs: chosen tokens' log-probabilities at temperature 1, one per piece.
        top_logprobs: per piece the largest ones in falling order; the number may differ from piece to piece.
        finish_reason: `stop`, `length` or `repetition`.
        vocabulary: V, for the upper bound.

    Raises:
        ValueError: the pieces do not add up to the text.
    """
    ends, total = ends_of_pieces(text, pieces), len(text.encode("utf-8"))
    count = len(ends)
    if finish_reason == "stop":
        count = sum(1 for start in [0, *ends][:count] if start < total)
    ends = ends[:count]
    if ends:
        ends[-1] = total
    by_width: dict[int, list[Sequence[float]]] = {}
    for row in top_logprobs[:count]:
        by_width.setdefault(len(row), []).append(row)
    lower = upper = 0.0
    for rows in by_width.values():
        low, high = mean_entropy_bounds(np.asarray(rows, dtype=np.float64), vocabulary)
        lower, upper = lower + low * len(rows) / count, upper + high * len(rows) / count
    return Generation(text, finish_reason, [float(x) for x in logprobs[:count]], ends, lower, upper)


def ends_with_stop(tokenizer: Any, token_ids: list[int], stop: Sequence[str]) -> bool:
    """Whether the last tokens hold a stop string; looks at no more of them than the longest string can have."""
    tail = tokenizer.decode(token_ids[-max(len(s.encode("utf-8")) for s in stop) - 1 :], skip_special_tokens=True)
    return any(string in tail for string in stop)


def stop_ids_of(tokenizer: Any, model: str, revision: str | None) -> set[int]:
    """Ids that end a turn: the tokenizer's EOS and those of the generation config."""
    from transformers import GenerationConfig

    ids = {tokenizer.eos_token_id}
    try:
        configured = GenerationConfig.from_pretrained(model, revision=revision or "main").eos_token_id
    except OSError:
        configured = None
    ids |= set(configured if isinstance(configured, list) else [configured])
    return {i for i in ids if i is not None}
