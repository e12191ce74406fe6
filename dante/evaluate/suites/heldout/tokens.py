"""A few held-out answers token by token: what the teacher would have said there, what the model, and how far apart."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from dante.cache import Record
from dante.students.scoring import Beside, Scores
from dante.text.chat import Rendered
from dante.text.tokens.offsets import token_ends, token_texts

# Digits behind the point of what is written.
_DIGITS = 6

Line = dict[str, Any]


def token_lines(
    scores: Scores,
    beside: Beside,
    records: Sequence[Record],
    rendered: Sequence[Rendered],
    tokenizer: PreTrainedTokenizerBase,
) -> Iterator[Line]:
    """One line per record: `id`, `prompt`, `domain`, `language`, and its supervised `tokens`, end of turn included.

    A token has its `text` and, where it holds a part of a character, `bytes`: how it reads alone. Such a character is
    the text of the token that completes it, and the others' is empty; joined, the texts are the answer. Beside them:
    `kl_nats`, KL(teacher ‖ model); `agrees`, whether both have one most likely token; `log_p`, the model's natural-log
    probability of the token that was written; and for `teacher` and `model` the most likely `token` as it reads alone,
    its probability `p`, and `entropy_nats` of the distribution.

    Args:
        scores: of all scored records.
        beside: the teacher's side of the same tokens.
        records: the first so many of them.
        rendered: the same records with the tokenizer.
        tokenizer: the one that teacher and model share.
    """
    starts = np.concatenate([[0], np.cumsum(scores.tokens)])
    for row, (record, item) in enumerate(zip(records, rendered, strict=True)):
        place = range(starts[row], starts[row + 1])
        yield {
            "id": record.id,
            "prompt": record.prompt,
            "domain": record.domain,
            "language": record.language,
            "tokens": [
                text
                | {
                    "kl_nats": _rounded(beside.kl[at]),
                    "agrees": bool(beside.agrees[at]),
                    "log_p": _rounded(-scores.nats[at]),
                    "teacher": _side(theirs, beside.confidence[at], beside.entropy[at]),
                    "model": _side(own, scores.confidence[at], scores.entropy[at]),
                }
                for at, text, theirs, own in zip(
                    place,
                    _texts(item, tokenizer),
                    token_texts(tokenizer, beside.argmax[place].tolist()),
                    token_texts(tokenizer, scores.argmax[place].tolist()),
                    strict=True,
                )
            ],
        }


def _texts(item: Rendered, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, str]]:
    """The supervised tokens' texts, as they read behind the prompt: alone some vocabularies drop the first space."""
    whole, ends = token_ends(tokenizer, item.input_ids, special=True)
    raw, supervised = whole.encode("utf-8"), [index for index, target in enumerate(item.supervised) if target]
    alone = token_texts(tokenizer, [item.input_ids[index] for index in supervised])
    texts = []
    for index, token in zip(supervised, alone, strict=True):
        text = raw[ends[index - 1] : ends[index]].decode("utf-8")
        texts.append({"text": text} if text == token else {"text": text, "bytes": token})
    return texts


def _side(token: str, probability: float, entropy: float) -> Line:
    return {"token": token, "p": _rounded(probability), "entropy_nats": _rounded(entropy)}


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)
