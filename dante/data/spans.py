"""A record's spans in the student's tokens: which each supervised token is in, and what another model has of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from dante.cache import Record
from dante.errors import DanteError
from dante.text.chat import ChatRenderer, Rendered
from dante.text.tokens.answer_ends import answer_token_ends
from dante.text.tokens.spans import align, span_of_tokens, sums


def spans_of(
    record: Record, rendered: Rendered, tokenizer: Any, targets: Sequence[bool]
) -> tuple[Int64[np.ndarray, " targets"], Float64[np.ndarray, " spans"]]:
    """The span of each target, and the teacher's log-likelihood of each span in nats.

    Args:
        record: with the log-probabilities of the teacher's tokens and where they end.
        rendered: as a chat, with all of the answer supervised.
        tokenizer: that rendered it.
        targets: of the answer's tokens and the end of the turn, those that are learnt from; a span of which one is not
            is left out.

    Raises:
        DanteError: the record has no log-probabilities, or was rendered to another text.
    """
    if record.token_ends is None or record.token_logprobs is None:
        raise DanteError(
            "the record has no log-probabilities of the teacher's tokens, and a loss reads likelihoods of spans",
            where="token_logprobs, token_ends",
            allowed="records that an engine of this lab has written, or with both lists filled in",
            fix="generate the cache (cache=generated), or take that loss away: loss=[ce]",
        )
    text = record.teacher_text
    begin = len(text[: len(text) - len(text.lstrip())].encode("utf-8"))
    ends = answer_token_ends(tokenizer, rendered, text)
    aligned = align(ends, record.token_ends, begin, begin + len(text.strip().encode("utf-8")))
    likelihood = sums(aligned, record.token_logprobs)
    span, whole = _learnt(span_of_tokens(aligned.ours, len(ends)), len(aligned), targets)
    return span, likelihood[whole]


@dataclass(frozen=True)
class ReadByOther:
    """A record as another model reads it.

    Attributes:
        input_ids: its tokens, up to the answer's last.
        prompt_tokens: of them, before the answer.
        their_span: the span of each of its answer's tokens; −1: in none.
        span: the span of each of the student's targets; −1: in none.
    """

    input_ids: list[int]
    prompt_tokens: int
    their_span: Int64[np.ndarray, " answer_tokens"]
    span: Int64[np.ndarray, " targets"]


def read_by_other(
    record: Record, rendered: Rendered, tokenizer: Any, other: ChatRenderer, targets: Sequence[bool]
) -> ReadByOther:
    """The record in another model's tokens, and the spans that both have.

    Args:
        record: any with a text.
        rendered: as a chat of the student's, with all of the answer supervised.
        tokenizer: that rendered it.
        other: renders it for the other model.
        targets: see `spans_of`.

    Raises:
        DanteError: the other model's template or tokens do not hold the record exactly.
    """
    text = record.teacher_text.strip()
    theirs = other.render(record.prompt, text)
    start = theirs.supervised.index(True)
    behind = start + sum(theirs.supervised) - 1  # without what ends the turn
    ends = answer_token_ends(tokenizer, rendered, text)
    their_ends = answer_token_ends(other.tokenizer, theirs, text)
    aligned = align(ends, their_ends, 0, len(text.encode("utf-8")))
    span, whole = _learnt(span_of_tokens(aligned.ours, len(ends)), len(aligned), targets)
    their_span = span_of_tokens(aligned.theirs, len(their_ends))
    return ReadByOther(theirs.input_ids[:behind], start, _renumbered(their_span, whole), span)


def _learnt(
    span: Int64[np.ndarray, " answer_tokens"], spans: int, targets: Sequence[bool]
) -> tuple[Int64[np.ndarray, " targets"], np.ndarray]:
    """The span of each target, numbered anew, and which spans are whole: learnt from in all of their tokens."""
    # What ends a turn is another token for every model: it is in no span.
    span, learnt = np.append(span, -1), np.asarray(targets, dtype=bool)
    whole = np.ones(spans, dtype=bool)
    whole[span[(span >= 0) & ~learnt]] = False
    return _renumbered(span, whole)[learnt], whole


def _renumbered(span: np.ndarray, whole: np.ndarray) -> Int64[np.ndarray, " _"]:
    """Numbers among the whole spans alone; −1 stays, and of one that is not whole it becomes."""
    numbers = np.append(np.where(whole, np.cumsum(whole) - 1, -1), -1)
    return numbers[span].astype(np.int64)
