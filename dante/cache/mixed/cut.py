"""Where an answer that reached its limit is cut [C: DASD §3: at a random position beyond half of its length]."""

import random
from collections.abc import Sequence

from dante.cache.records.record import stable_hash


def cut_place(identity: str, token_ends: Sequence[int], begun: float, seed: int) -> int:
    """How many tokens of an answer stay: more than the share `begun` of them, and not all.

    Every such number is equally likely, whatever the answers beside it are. Tokens are counted, not characters: a
    place between two tokens is one between two characters, because a token that holds part of a character ends where
    that character begins.

    Args:
        identity: of the answer.
        token_ends: of its tokens, two at least, in UTF-8 bytes.
        begun: share of the tokens behind which it may be cut, in [0, 1).
        seed: of the draw.
    """
    count = len(token_ends)
    first = min(int(begun * count) + 1, count - 1)
    return random.Random(stable_hash("cut", seed, identity)).randint(first, count - 1)


def beginning(text: str, token_ends: Sequence[int], tokens: int) -> str:
    """The text of an answer's first tokens, in whole characters."""
    return text.encode("utf-8")[: token_ends[tokens - 1]].decode("utf-8")
