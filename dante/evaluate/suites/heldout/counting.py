"""Unigram and trigram as two more models: bits of the held-out answers in the student's tokens."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from dante.cache import Record
from dante.evaluate.suites.heldout.ngram import Ngrams, Trigram, Unigram, collect
from dante.text.chat import ChatRenderer


def counting_models(
    renderer: ChatRenderer, train: Sequence[Record], records: Sequence[Record]
) -> dict[str, Float64[np.ndarray, "records"]]:
    """Bits per record of both models: fitted on the train answers, asked for the same tokens as the student."""
    vocab = len(renderer.tokenizer)
    fitted, wanted = _ngrams(renderer, train, vocab), _ngrams(renderer, records, vocab)

    def bits(log_p: Float64[np.ndarray, "tokens"]) -> Float64[np.ndarray, "records"]:
        return np.bincount(wanted.record, weights=-log_p / np.log(2), minlength=len(records))

    return {
        "unigram": bits(Unigram(fitted, vocab).log_p(wanted)),
        "trigram": bits(Trigram(fitted, vocab).log_p(wanted)),
    }


def _ngrams(renderer: ChatRenderer, records: Sequence[Record], vocab: int) -> Ngrams:
    rendered = [renderer.render(record.prompt, record.teacher_text) for record in records]
    return collect([(item.input_ids, item.supervised) for item in rendered], vocab)
