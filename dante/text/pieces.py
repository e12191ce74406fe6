"""Where each token ends in the UTF-8 bytes of a text that came with the bytes of its tokens, and without their ids.

Servers differ in a character that several tokens share: hosted ones return each token's own bytes, vLLM nothing until
the last piece, which carries the whole character. Both give the same ends here: never inside a character, so that the
pieces before the last one end where the character begins (as in `offsets.py`).
"""

import codecs
from collections.abc import Sequence

from dante.text.offsets import REPLACEMENT


def ends_of_pieces(text: str, pieces: Sequence[bytes]) -> list[int]:
    """End offset of each piece in the UTF-8 bytes of `text`, at most its length.

    Pieces may go on behind the text. Replacement characters count for nothing in the comparison: whether, and how
    many of them, stand for broken bytes is the server's choice.

    Raises:
        ValueError: the pieces are not the text.
    """
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    ends: list[int] = []
    at = offset = 0  # in characters and in bytes
    for number, piece in enumerate(pieces, start=1):
        for character in decode(piece, final=number == len(pieces)):
            while character != REPLACEMENT and text[at : at + 1] == REPLACEMENT:
                at, offset = at + 1, offset + len(REPLACEMENT.encode("utf-8"))
            if at == len(text):
                break
            if text[at] == character:
                at, offset = at + 1, offset + len(character.encode("utf-8"))
            elif character != REPLACEMENT:
                raise ValueError(f"piece {number} continues with {character!r} where the text has {text[at]!r}")
        ends.append(offset)
    if text[at:].strip(REPLACEMENT):
        raise ValueError(f"the pieces end before {text[at : at + 20]!r}")
    return ends
