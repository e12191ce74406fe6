"""Where in an answer a model agrees with its teacher, and how that depends on how sure the teacher is.

Agreement (the same most likely token) and KL(teacher ‖ model) over bins of the position in the answer, and over bins of
the teacher's own entropy [I]. Bins are the same for every run, so that tables of several runs can be laid beside each
other. A value is a ratio over the answers that have tokens in the bin; its standard error counts answers, not tokens,
which are not independent.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from dante.statistics.ratio import Ratio
from dante.students.scoring import Beside, Scores

# Where bins begin; each ends where the next one begins, and the last is open. Positions count tokens from 1, and double
# as a curve over thousands of tokens has to; the teacher's entropy is near zero for most tokens of an answer.
POSITIONS = (1, 5, 9, 17, 33, 65, 129, 257, 513, 1025)
ENTROPIES_NATS = (0.0, 0.01, 0.05, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0)


def agreement(scores: Scores, beside: Beside) -> dict[str, list[dict[str, Any]]]:
    """Tables `position` and `entropy`, a line per bin.

    A bin has `low` (included), `high` (not included; None: open), how many `tokens` of how many `answers`, `agreement`
    (a share) and `kl_nats` (nats per token), None where it is empty, and their `…_stderr`, None below two answers.
    """
    # Rounding may leave the entropy of a certain teacher a little below 0.
    entropy = np.maximum(beside.entropy, 0.0)
    return {
        "position": _table(scores, beside, scores.position.astype(np.float64), POSITIONS),
        "entropy": _table(scores, beside, entropy, ENTROPIES_NATS),
    }


def _table(
    scores: Scores, beside: Beside, value: Float64[np.ndarray, "tokens"], starts: Sequence[int | float]
) -> list[dict[str, Any]]:
    place = np.searchsorted(starts, value, side="right") - 1
    ends = (*starts[1:], None)
    return [
        {"low": low, "high": high} | _bin(scores, beside, place == index)
        for index, (low, high) in enumerate(zip(starts, ends, strict=True))
    ]


def _bin(scores: Scores, beside: Beside, inside: np.ndarray) -> dict[str, Any]:
    tokens = scores.per_item(inside)
    there = tokens > 0
    line: dict[str, Any] = {"tokens": int(tokens.sum()), "answers": int(there.sum())}
    for name, values in (("agreement", beside.agrees), ("kl_nats", beside.kl)):
        ratio = Ratio(scores.per_item(values * inside)[there], tokens[there])
        line |= {name: ratio.value if len(ratio) else None, f"{name}_stderr": ratio.stderr}
    return line
