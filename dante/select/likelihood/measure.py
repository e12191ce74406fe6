"""A model reads answers with its own tokenizer and template, and what it says of each token is placed in the answer."""

from collections.abc import Callable, Sequence

import numpy as np
from transformers import PreTrainedModel

from dante.cache.records.record import Record
from dante.errors import DanteError
from dante.select.likelihood.files import Likelihood, text_of
from dante.students.scoring import context_of, score
from dante.text.chat import ChatRenderer, Rendered
from dante.text.tokens.answer_ends import answer_token_ends


def likelihoods(
    model: PreTrainedModel,
    renderer: ChatRenderer,
    records: Sequence[Record],
    advance: Callable[[int], object] = lambda records: None,
) -> list[Likelihood]:
    """One per record, in their order.

    Args:
        model: in evaluation mode, on its device.
        renderer: the model's own.
        records: answers.
        advance: called with the number of records finished.

    Raises:
        DanteError: the template cannot hold a record, it is too long for the model, or its tokens are not the answer.
    """
    rendered = [_rendered(renderer, record) for record in records]
    _check_lengths(model, records, rendered)
    scores = score(model, rendered, advance, ranks=True)
    assert scores.rank is not None
    starts = np.concatenate([[0], np.cumsum(scores.tokens)])
    result = []
    for index, (record, one) in enumerate(zip(records, rendered, strict=True)):
        kept = slice(starts[index], starts[index + 1] - 1)  # without the end of the turn
        result.append(
            Likelihood(
                identity=record.id,
                text=text_of(record),
                nats=scores.nats[kept].astype(np.float32),
                rank=scores.rank[kept].astype(np.int32),
                end=np.array(_places(renderer, one, record), dtype=np.int32),
            )
        )
    return result


def _rendered(renderer: ChatRenderer, record: Record) -> Rendered:
    try:
        return renderer.render(record.prompt, record.teacher_text)
    except DanteError as error:
        raise DanteError(error.what, where=f"record {record.id}", allowed=error.allowed, fix=error.fix) from None


def _places(renderer: ChatRenderer, rendered: Rendered, record: Record) -> list[int]:
    try:
        return answer_token_ends(renderer.tokenizer, rendered, record.teacher_text)
    except DanteError as error:
        raise DanteError(error.what, where=f"record {record.id}", allowed=error.allowed, fix=error.fix) from None


def _check_lengths(model: PreTrainedModel, records: Sequence[Record], rendered: Sequence[Rendered]) -> None:
    limit = context_of(model.config)
    for record, one in zip(records, rendered, strict=True):
        if limit is not None and len(one.input_ids) > limit:
            raise DanteError(
                f"it has {len(one.input_ids):,} of the student's tokens, and its context {limit:,}",
                where=f"record {record.id}",
                allowed=f"candidates of at most {limit:,} tokens, prompt included",
                fix="add the filter too_long to the cache (conf/cache/filters/thinking.yaml)",
            )
