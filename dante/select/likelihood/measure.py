"""A model reads answers with its own tokenizer and template, and what it says of each token is placed in the answer."""

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from transformers import PreTrainedModel

from dante.cache.records.record import Record
from dante.errors import DanteError
from dante.select.likelihood.files import Likelihood, text_of
from dante.students.scoring import score
from dante.text.chat import ChatRenderer, Rendered
from dante.text.offsets import token_ends


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
                end=np.array(places(renderer, one, record), dtype=np.int32),
            )
        )
    return result


def places(renderer: ChatRenderer, rendered: Rendered, record: Record) -> list[int]:
    """Where each token of an answer ends in its UTF-8 bytes; what a template writes before it ends at its beginning.

    Raises:
        DanteError: the tokens do not decode to the answer, not even to its normal form.
    """
    start = rendered.supervised.index(True)
    ids = rendered.input_ids[: start + sum(rendered.supervised) - 1]
    # Behind the prompt, not alone: some decoders drop the first space of what they are given.
    text, ends = token_ends(renderer.tokenizer, ids)
    before = ends[start - 1]
    decoded = text.encode("utf-8")[before:].decode("utf-8")
    core = decoded.lstrip()
    answer = record.teacher_text.strip()
    lead, total = len(decoded.encode()) - len(core.encode()), len(core.encode())
    within = [min(max(end - before - lead, 0), total) for end in ends[start:]]
    if core != answer:
        within = _denormalised(within, core, answer, record)
    outer = len(record.teacher_text[: len(record.teacher_text) - len(record.teacher_text.lstrip())].encode())
    return [outer + end for end in within]


def _denormalised(ends: list[int], core: str, answer: str, record: Record) -> list[int]:
    """Places in the normal form of an answer (Qwen's tokenizer reads NFC) as places in the answer.

    Piece by piece: a character with what combines with it. A place inside a piece becomes the piece's beginning.
    """
    there, here, pieces = [0], [0], _pieces(answer)
    normal = [_normal(piece) for piece in pieces]
    if "".join(normal) != core:
        raise DanteError(
            "the student's tokens do not decode to the answer",
            where=f"record {record.id}",
            allowed="text that its tokenizer keeps, but for Unicode's NFC",
            fix="drop the record from the cache, or take another student",
        )
    for piece, written in zip(pieces, normal, strict=True):
        there.append(there[-1] + len(written.encode()))
        here.append(here[-1] + len(piece.encode()))
    found = np.searchsorted(there, ends, side="right") - 1
    return [here[int(place)] for place in found]


def _pieces(text: str) -> list[str]:
    """The text cut where its normal form can be cut: a character with all that changes when it follows."""
    pieces: list[str] = []
    for character in text:
        before = pieces[-1] if pieces else ""
        changes = before and _normal(before + character) != _normal(before) + character
        if changes or (before and unicodedata.combining(character)):  # what follows may change places with a mark
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _rendered(renderer: ChatRenderer, record: Record) -> Rendered:
    try:
        return renderer.render(record.prompt, record.teacher_text)
    except DanteError as error:
        raise DanteError(error.what, where=f"record {record.id}", allowed=error.allowed, fix=error.fix) from None
