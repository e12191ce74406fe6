"""Where each token ends in the UTF-8 bytes of the text.

Tokens of byte-level and byte-fallback vocabularies may hold a part of a character. The text only grows when the
character is complete, so the last piece carries all of its bytes and the pieces before it end where it begins.
"""

from typing import Any

REPLACEMENT = "\ufffd"
WINDOW_TOKENS = 8


def token_ends(tokenizer: Any, token_ids: list[int]) -> tuple[str, list[int]]:
    """The decoded text and the end offset of every token in its UTF-8 bytes.

    Decodes short windows instead of ever longer prefixes (linear time), and starts each window some tokens early,
    because some vocabularies treat the first token of a decoded sequence differently (a dropped leading space).
    """
    text = _decode(tokenizer, token_ids)
    ends, windowed = _windowed(tokenizer, token_ids)
    if windowed != text:
        ends = _by_prefix(tokenizer, token_ids, text)
    total = len(text.encode("utf-8"))
    if ends:
        # Bytes that never became a character (an answer cut off inside one) belong to the last token.
        ends[-1] = total
    return text, ends


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _windowed(tokenizer: Any, ids: list[int]) -> tuple[list[int], str]:
    ends: list[int] = []
    pieces: list[str] = []
    clean, offset = 0, 0
    context = ""  # decode(ids[start:clean]): what the window shows of tokens already accounted for
    start = 0
    for i in range(len(ids)):
        shown = _decode(tokenizer, ids[start : i + 1])
        if not shown.endswith(REPLACEMENT) or i + 1 == len(ids):
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
