"""Where each token ends in the UTF-8 bytes of the text.

Tokens of byte-level and byte-fallback vocabularies may hold a part of a character. The text only grows when the
character is complete, so the last piece carries all of its bytes and the pieces before it end where it begins.

An unfinished character is shown as U+FFFD. Where that stands in the finished text as well (the teacher wrote it, or
bytes never became a character), what is shown does not tell whether it is finished; the bytes of the tokens do.

A server sends a text with the bytes of its tokens and without their ids. Servers differ in a character that several
tokens share: hosted ones return each token's own bytes, vLLM nothing until the last piece, which carries the whole
character. Both give the same ends here (`ends_of_pieces`): never inside a character.
"""

import codecs
import functools
import json
import re
from collections.abc import Sequence
from typing import Any

REPLACEMENT = "\ufffd"
WINDOW_TOKENS = 8
_BYTE = re.compile("<0x([0-9A-F]{2})>")
_SPACE = "\u2581"  # what SentencePiece writes for one


def token_ends(tokenizer: Any, token_ids: list[int], *, special: bool = False) -> tuple[str, list[int]]:
    """The decoded text and the end offset of every token in its UTF-8 bytes.

    Byte-level vocabularies tell the bytes of every token, which add up to the text. For all others, and where they do
    not (bytes that are no character), it decodes short windows instead of ever longer prefixes (linear time), and
    starts each window some tokens early, because some vocabularies treat the first token of a decoded sequence
    differently (a dropped leading space). With `special`, special tokens are part of the text.
    """
    if special:
        tokenizer = _WithSpecialTokens(tokenizer)
    text = _decode(tokenizer, token_ids)
    byte_ends = _by_bytes(tokenizer, token_ids, text)
    if byte_ends is not None:
        return text, byte_ends
    unfinished = _unfinished(tokenizer, token_ids) if REPLACEMENT in text else None
    ends, windowed = _windowed(tokenizer, token_ids, unfinished)
    if windowed != text:
        ends = _by_prefix(tokenizer, token_ids, text)
    total = len(text.encode("utf-8"))
    if ends:
        # Bytes that never became a character (an answer cut off inside one) belong to the last token.
        ends[-1] = total
    return text, ends


def token_texts(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """Each token as it reads alone: its text, and bytes that are no whole character as `\\xe2\\x82`.

    Unlike what a tokenizer decodes of a single token, a leading space stays, and different parts of a character differ.
    """
    return [data.decode("utf-8", "backslashreplace") for data, _ in token_bytes(tokenizer, token_ids)]


def token_bytes(tokenizer: Any, token_ids: Sequence[int]) -> list[tuple[bytes, bool]]:
    """The bytes of each token inside a text, and whether it is a single byte that a vocabulary falls back to.

    An id without a token, of a vocabulary that was padded to a round size, has none.
    """
    alphabet = _byte_alphabet() if "ByteLevel" in _decoder_kinds(tokenizer) else {}
    space = b"" if alphabet else _SPACE.encode()
    found = []
    for token in tokenizer.convert_ids_to_tokens(list(token_ids)):
        data = b"" if token is None else _bytes_of(token, alphabet)
        falls_back = bool(token and not alphabet and _BYTE.fullmatch(token))
        found.append((data.replace(space, b" ") if space else data, falls_back))
    return found


class _WithSpecialTokens:
    """A tokenizer to which no token is special."""

    all_special_ids: tuple[int, ...] = ()

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def decode(self, ids: list[int], **kwargs: Any) -> str:
        text: str = self._tokenizer.decode(ids, **(kwargs | {"skip_special_tokens": False}))
        return text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _windowed(tokenizer: Any, ids: list[int], unfinished: list[bool] | None) -> tuple[list[int], str]:
    ends: list[int] = []
    pieces: list[str] = []
    clean, offset = 0, 0
    context = ""  # decode(ids[start:clean]): what the window shows of tokens already accounted for
    start = 0
    for i in range(len(ids)):
        shown = _decode(tokenizer, ids[start : i + 1])
        open_end = shown.endswith(REPLACEMENT) if unfinished is None else unfinished[i]
        if not open_end or i + 1 == len(ids):
            piece = shown[len(context) :]
            pieces.append(piece)
            offset += len(piece.encode("utf-8"))
            clean = i + 1
            if clean - start >= 2 * WINDOW_TOKENS:
                start = _boundary(tokenizer, ids, start, clean)
            context = _decode(tokenizer, ids[start:clean])
        ends.append(offset)
    return ends, "".join(pieces)


def _boundary(tokenizer: Any, ids: list[int], start: int, clean: int) -> int:
    """A later start for the window, at which no character is cut in two; the old one if there is none."""
    for candidate in range(clean - WINDOW_TOKENS, start, -1):
        if REPLACEMENT not in _decode(tokenizer, ids[candidate:clean]):
            return candidate
    return start


def _by_prefix(tokenizer: Any, ids: list[int], text: str) -> list[int]:
    """Quadratic and always right: the longest common beginning of the text and of every decoded prefix."""
    ends, last = [], 0
    for i in range(len(ids)):
        shown = _decode(tokenizer, ids[: i + 1])
        common = 0
        for a, b in zip(shown, text, strict=False):
            if a != b:
                break
            common += 1
        if common < len(shown):  # an unfinished character, shown as a replacement
            shown = shown[:common]
        last = max(last, len(shown.encode("utf-8")))
        ends.append(last)
    return ends


def _by_bytes(tokenizer: Any, ids: list[int], text: str) -> list[int] | None:
    """Ends by the tokens' bytes; None where these are not known or are not the text."""
    if "ByteLevel" not in _decoder_kinds(tokenizer):
        return None
    alphabet, special = _byte_alphabet(), set(tokenizer.all_special_ids)
    tokens = tokenizer.convert_ids_to_tokens(ids)
    pieces = [b"" if i in special else _bytes_of(token, alphabet) for i, token in zip(ids, tokens, strict=True)]
    data, ends, at = b"".join(pieces), [], 0
    if data != text.encode("utf-8"):
        return None
    for piece in pieces:
        at += len(piece)
        end = at
        while end < len(data) and data[end] & 0xC0 == 0x80:  # inside a character: back to where it begins
            end -= 1
        ends.append(end)
    return ends


def _unfinished(tokenizer: Any, ids: list[int]) -> list[bool] | None:
    """Whether each token ends inside a character, by its bytes; None for a vocabulary that does not tell them."""
    kinds = _decoder_kinds(tokenizer)
    if not kinds & {"ByteLevel", "ByteFallback"}:
        return None
    alphabet = _byte_alphabet() if "ByteLevel" in kinds else {}
    special = set(tokenizer.all_special_ids)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    flags = []
    for i, token in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        if i not in special:  # not decoded
            decoder.decode(_bytes_of(token, alphabet))
        flags.append(bool(decoder.getstate()[0]))
    return flags


def _bytes_of(token: str, alphabet: dict[str, int]) -> bytes:
    if alphabet:
        # Added tokens are written as they are, not in the alphabet.
        return bytes(alphabet[c] for c in token) if all(c in alphabet for c in token) else token.encode("utf-8")
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.encode("utf-8")


def _decoder_kinds(tokenizer: Any) -> set[str]:
    """Names of the steps of a fast tokenizer's decoder."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.decoder is None:
        return set()
    state = json.loads(backend.decoder.__getstate__())
    return {state["type"], *(step["type"] for step in state.get("decoders", []))}


@functools.cache
def _byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in byte-level vocabularies (GPT-2 [C])."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(rest)}


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
