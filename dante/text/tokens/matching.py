"""Tokens that two vocabularies share: those that stand for the same bytes, whatever a vocabulary calls them.

Names do not tell: a space is `Ġ` in one vocabulary and `▁` in another, and the same name may be another text. Special
tokens match none: what ends a turn, say, is another token for every model, and no text.
"""

from typing import Any

import numpy as np
from jaxtyping import Int64

from dante.text.tokens.offsets import token_bytes


def matched_ids(theirs: Any, ours: Any) -> tuple[Int64[np.ndarray, " matched"], Int64[np.ndarray, " matched"]]:
    """Ids of the tokens that both tokenizers have, theirs rising, and ours in the same order.

    Of several tokens with the same bytes the one that a text is made of counts: not the byte that a vocabulary falls
    back to, and else the first.
    """
    our_ids = _ids_by_bytes(ours)
    pairs = sorted((number, our_ids[data]) for data, number in _ids_by_bytes(theirs).items() if data in our_ids)
    both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return both[:, 0].copy(), both[:, 1].copy()


def _ids_by_bytes(tokenizer: Any) -> dict[bytes, int]:
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    numbers = sorted(set(tokenizer.get_vocab().values()) - added - set(tokenizer.all_special_ids))
    found: dict[bytes, tuple[bool, int]] = {}
    for number, (data, falls_back) in zip(numbers, token_bytes(tokenizer, numbers), strict=True):
        if data and (data not in found or (found[data][0] and not falls_back)):
            found[data] = falls_back, number
    return {data: number for data, (_, number) in found.items()}
