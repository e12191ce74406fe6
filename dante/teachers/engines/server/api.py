"""The two APIs of an OpenAI-compatible server that can answer with log-probabilities: what is sent, how it reads.

`completions` takes the lab's own prompt tokens and returns the ids of the answer's, so nothing is tokenised twice; it
needs vLLM's additions to the API. `chat` takes messages, is rendered by the server, and returns the bytes of every
token: hosted endpoints offer nothing else.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dante.errors import DanteError
from dante.teachers.engines.base import Decoding, Generation, Request, Scored, generation_from_bytes, to_generation
from dante.teachers.engines.server.client import Garbage
from dante.text.repetition import RepetitionLimit
from dante.text.tokens.offsets import REPLACEMENT

TOKEN_ID = "token_id:"  # how vLLM writes a token as its id, where two ids may have the same text
# Whatever else ends an answer from outside leaves it truncated.
REASONS = {"stop": "stop", "length": "length", "repetition": "repetition", "content_filter": "length"}
NOT_VLLM = "choose engine.api=chat, or serve the teacher with vLLM (launch/serve_teacher.sh)"


@dataclass(frozen=True)
class Words:
    """The teacher's vocabulary: its tokenizer if it is here, ids that end a turn, number of entries."""

    tokenizer: Any | None
    stop_ids: set[int]
    size: int


class Api(Protocol):
    """One of the two."""

    path: str

    def body(self, request: Request, decoding: Decoding, words: Words, vllm_fields: bool) -> dict[str, Any]: ...

    def read(self, answer: Any, decoding: Decoding, words: Words) -> Generation: ...


class Completions:
    """Token ids in, token ids out."""

    path = "/completions"

    def body(self, request: Request, decoding: Decoding, words: Words, vllm_fields: bool) -> dict[str, Any]:
        """JSON to post, but for the model."""
        return _sampling(request, decoding, words, vllm_fields) | {
            "prompt": request.prompt_ids,
            "logprobs": decoding.logprobs,
            "return_tokens_as_token_ids": True,
        }

    def read(self, answer: Any, decoding: Decoding, words: Words) -> Generation:
        """The answer's JSON → a generation; `Garbage` when something is missing."""
        choice = _take(answer, "choices", 0)
        ids = choice.get("token_ids")
        if ids is None:
            raise DanteError("the server returns no token ids", where="engine.api", fix=NOT_VLLM)
        logprobs = _numbers(_take(choice, "logprobs", "token_logprobs"))
        rows = [_largest(row.values(), decoding.logprobs) for row in _take(choice, "logprobs", "top_logprobs")]
        return _from_ids(_text(choice.get("text")), ids, logprobs, rows, _reason(choice), decoding, words)


class Chat:
    """Messages in, text and the bytes of its tokens out (and ids, where the server has them)."""

    path = "/chat/completions"

    def body(self, request: Request, decoding: Decoding, words: Words, vllm_fields: bool) -> dict[str, Any]:
        """JSON to post, but for the model; a given beginning becomes an assistant message to continue."""
        if not request.messages:
            raise DanteError("the requests carry no messages", where="engine.api", allowed="completions")
        messages, going_on = list(request.messages), dict[str, Any]()
        if request.chat:
            if not vllm_fields:
                raise DanteError(
                    f"this server's template takes no variables ({', '.join(request.chat)})",
                    where="chat, engine.vllm_fields",
                    fix="leave chat.* out, or " + NOT_VLLM.split(", or ")[1],
                )
            going_on["chat_template_kwargs"] = request.chat
        if request.prefix:
            if not vllm_fields:
                raise DanteError(
                    "this server cannot continue an answer whose beginning is given",
                    where="engine.vllm_fields",
                    fix=NOT_VLLM.split(", or ")[1],
                )
            messages.append({"role": "assistant", "content": request.prefix})
            going_on |= {"add_generation_prompt": False, "continue_final_message": True}
        return (
            _sampling(request, decoding, words, vllm_fields)
            | {"messages": messages, "logprobs": True, "top_logprobs": decoding.logprobs}
            | going_on
        )

    def read(self, answer: Any, decoding: Decoding, words: Words) -> Generation:
        """The answer's JSON → a generation; `Garbage` when something is missing."""
        choice = _take(answer, "choices", 0)
        message = _take(choice, "message")
        if message.get("reasoning") or message.get("reasoning_content"):
            raise DanteError(
                "the server takes the reasoning out of the answer",
                where="engine.base_url",
                fix="serve the teacher without a reasoning parser, or choose engine.api=completions",
            )
        text, reason = _text(message.get("content") or ""), _reason(choice)
        entries = (choice.get("logprobs") or {}).get("content") or []
        if text and not entries:
            raise Garbage("without log-probabilities")
        logprobs = _numbers([_take(entry, "logprob") for entry in entries])
        rows = [_largest_of_chat(entry, logprob, decoding) for entry, logprob in zip(entries, logprobs, strict=True)]
        ids = choice.get("token_ids")
        if ids is not None and words.tokenizer is not None:
            return _from_ids(text, ids, logprobs, rows, reason, decoding, words)
        pieces = [_bytes(entry) for entry in entries]
        if (end := loop_end(pieces, decoding.repetition)) is not None:
            whole, cut = text.encode("utf-8"), sum(map(len, pieces[:end]))
            if cut <= len(whole):
                pieces, logprobs, rows, reason = pieces[:end], logprobs[:end], rows[:end], "repetition"
                text = whole[:cut].decode("utf-8", errors="ignore")
        try:
            return generation_from_bytes(text, pieces, logprobs, rows, reason, words.size)
        except ValueError as error:
            raise Garbage(f"whose tokens are not its text ({error})") from None


def read_scores(answer: Any, ids: list[int], start: int, k: int) -> Scored:
    """What `/completions` with `prompt_logprobs` says of `ids[start:]`; `DanteError` from a server that cannot."""
    choice = _take(answer, "choices", 0)
    entries = choice.get("prompt_logprobs")
    if entries is None:
        raise DanteError(
            "the server cannot score a given text: it ignores prompt_logprobs",
            where="engine.base_url",
            fix="serve the teacher with vLLM (launch/serve_teacher.sh), or score with another engine",
        )
    if len(entries) != len(ids):
        raise Garbage(f"with log-probabilities for {len(entries)} of {len(ids)} tokens")
    token_logprobs, values, whose = [], [], []
    for token, entry in zip(ids[start:], entries[start:], strict=True):
        logprob_by_token = {int(key): _number(_take(value, "logprob")) for key, value in (entry or {}).items()}
        if token not in logprob_by_token:
            raise Garbage(f"without token {token} of the given text")
        best = sorted(logprob_by_token, key=lambda other: (-logprob_by_token[other], other))[:k]
        token_logprobs.append(logprob_by_token[token])
        values.append([logprob_by_token[other] for other in best])
        whose.append(best)
    return Scored(token_logprobs, values, whose)


def loop_end(tokens: Sequence[Hashable], limit: RepetitionLimit | None) -> int | None:
    """How many tokens there are when the loop is complete for which an engine would have ended the answer, or None."""
    if limit is None:
        return None
    runs = [0] * (limit.max_tokens + 1)  # by pattern length: how many tokens in a row equal the one a pattern earlier
    for count, token in enumerate(tokens, start=1):
        for size in range(limit.min_tokens, limit.max_tokens + 1):
            runs[size] = runs[size] + 1 if count > size and tokens[count - 1 - size] == token else 0
            if count >= size * limit.count and runs[size] >= size * (limit.count - 1):
                return count
    return None


def _sampling(request: Request, decoding: Decoding, words: Words, vllm_fields: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "max_tokens": request.limit(decoding),
        "temperature": decoding.heat,
        "top_p": decoding.top_p,
        "seed": request.seed,
    }
    if decoding.stop:
        fields["stop"] = decoding.stop
    if decoding.top_k:
        fields["top_k"] = decoding.top_k
    if not vllm_fields:
        return fields
    # What is not said, vLLM takes from the model's generation config: some have a top-k or a penalty there.
    fields |= {"top_k": decoding.top_k, "min_p": 0.0, "repetition_penalty": 1.0}
    fields |= {"presence_penalty": 0.0, "frequency_penalty": 0.0}
    fields |= {"stop_token_ids": sorted(words.stop_ids), "return_token_ids": True}
    if decoding.special_tokens:
        fields["skip_special_tokens"] = False
    if decoding.repetition is not None:
        fields["repetition_detection"] = {
            "min_pattern_size": decoding.repetition.min_tokens,
            "max_pattern_size": decoding.repetition.max_tokens,
            "min_count": decoding.repetition.count,
        }
    return fields


def _from_ids(
    text: str,
    ids: list[int],
    logprobs: list[float],
    rows: list[list[float]],
    reason: str,
    decoding: Decoding,
    words: Words,
) -> Generation:
    if not len(ids) == len(logprobs) == len(rows):
        raise Garbage(f"with {len(ids)} tokens, {len(logprobs)} log-probabilities and {len(rows)} lists of top ones")
    if (end := loop_end([i for i in ids if i not in words.stop_ids], decoding.repetition)) is not None:
        ids, logprobs, rows, reason = ids[:end], logprobs[:end], rows[:end], "repetition"
    width = min(
        map(len, rows), default=0
    )  # chat may give one less where a rare token was drawn; a prefix is valid, too
    rows = [row[:width] for row in rows]
    generation = to_generation(words.tokenizer, ids, logprobs, rows, reason, words.stop_ids, words.size, decoding)
    decoded_text, server_text = generation.text.strip().rstrip(REPLACEMENT), text.strip().rstrip(REPLACEMENT)
    if not (decoded_text.startswith(server_text) or server_text.startswith(decoded_text)):
        raise DanteError(
            f"the server's tokens are {decoded_text[:40]!r} to the teacher's tokenizer "
            f"and {server_text[:40]!r} to the server",
            where="engine.model",
            fix="serve the model that the teacher stage names",
        )
    return generation


def _take(node: Any, *path: str | int) -> Any:
    for step in path:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            node = None
        if node is None:
            raise Garbage(f"without {'.'.join(map(str, path))}")
    return node


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Garbage("without text")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise Garbage(f"with the log-probability {value!r}")
    return float(value)


def _numbers(values: list[Any]) -> list[float]:
    return [_number(value) for value in values]


def _reason(choice: Any) -> str:
    reason = choice.get("finish_reason")
    if reason not in REASONS:
        raise Garbage(f"with the finish reason {reason!r}")
    return REASONS[reason]


def _bytes(entry: Any) -> bytes:
    raw = entry.get("bytes")
    return _text(_take(entry, "token")).encode("utf-8") if raw is None else bytes(raw)


def _largest(values: Any, k: int) -> list[float]:
    row = sorted((_number(value) for value in values), reverse=True)[:k]
    if not row:
        raise Garbage("without top log-probabilities")
    return row


def _largest_of_chat(entry: Any, logprob: float, decoding: Decoding) -> list[float]:
    """The largest ones in falling order, all of which are known to be the largest.

    vLLM lists the drawn token first and cuts the list at K: a token outside the K largest pushes out the K-th. So an
    own token at the end of a full list is left out of it.
    """
    row = _largest([_take(top, "logprob") for top in _take(entry, "top_logprobs")], decoding.logprobs)
    return row[:-1] if len(row) > 1 and len(row) == decoding.logprobs and row[-1] == logprob else row
