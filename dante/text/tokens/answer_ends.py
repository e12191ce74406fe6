"""Where the tokens of a rendered answer lie in the answer's own text."""

import unicodedata
from typing import Any

import numpy as np

from dante.errors import DanteError
from dante.text.chat import Rendered
from dante.text.tokens.offsets import token_ends


def answer_token_ends(tokenizer: Any, rendered: Rendered, answer: str) -> list[int]:
    """Where each supervised token but the end of the turn ends in the answer's UTF-8 bytes.

    What a template writes before the answer ends at its beginning.

    Args:
        tokenizer: that rendered it.
        rendered: a chat, whose supervised tokens are the answer's and the end of the turn.
        answer: as it was rendered, white space at its ends included.

    Raises:
        DanteError: the tokens do not decode to the answer, not even to its normal form.
    """
    start = rendered.supervised.index(True)
    ids = rendered.input_ids[: start + sum(rendered.supervised) - 1]
    # Behind the prompt, not alone: some decoders drop the first space of what they are given.
    text, ends = token_ends(tokenizer, ids)
    before = ends[start - 1]
    decoded = text.encode("utf-8")[before:].decode("utf-8")
    core = decoded.lstrip()
    stripped = answer.strip()
    lead, total = len(decoded.encode()) - len(core.encode()), len(core.encode())
    within = [min(max(end - before - lead, 0), total) for end in ends[start:]]
    if core != stripped:
        within = _denormalised(within, core, stripped)
    outer = len(answer[: len(answer) - len(answer.lstrip())].encode())
    return [outer + end for end in within]


def _denormalised(ends: list[int], core: str, answer: str) -> list[int]:
    """Places in the normal form of an answer (Qwen's tokenizer reads NFC) as places in the answer.

    Piece by piece: a character with what combines with it. A place inside a piece becomes the piece's beginning.
    """
    there, here, pieces = [0], [0], _pieces(answer)
    normal = [_normal(piece) for piece in pieces]
    if "".join(normal) != core:
        raise DanteError(
            "the student's tokens do not decode to the answer",
            where="teacher_text",
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
