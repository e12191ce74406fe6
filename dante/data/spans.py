"""A record's spans in the student's tokens: which each supervised token is in, and what the teacher thought of each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from dante.cache import Record
from dante.errors import DanteError
from dante.text.chat import Rendered
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
    # What ends a turn is another token for every model: it is in no span.
    span = np.append(span_of_tokens(aligned, len(ends)), -1)
    likelihood = sums(aligned, record.token_logprobs)
    learnt = np.asarray(targets, dtype=bool)
    whole = np.ones(len(likelihood), dtype=bool)
    whole[span[(span >= 0) & ~learnt]] = False
    renumbered = np.append(np.where(whole, np.cumsum(whole) - 1, -1), -1)  # -1 stays -1
    return renumbered[span][learnt].astype(np.int64), likelihood[whole]
