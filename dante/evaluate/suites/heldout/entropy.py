"""How sure a model is of the next token, and whether it is right where it is not: the distribution of its entropy.

Predictive entropy H = −Σ_v p_v log p_v over the whole vocabulary, divided by log V: 0 for a certain model, 1 for one
that knows nothing, comparable between vocabularies. Counts per bin, apart for tokens that are right (the teacher's
token is the most likely one) and wrong: a model that only got surer, and not better, moves both to the left.
"""

import math
from typing import Any

import numpy as np

from dante.students.scoring import Scores

BINS = 32


def entropy_histogram(scores: Scores) -> dict[str, Any]:
    """`edges` of bins of equal width on [0, 1], and in each bin how many tokens were `right` and how many `wrong`."""
    # Rounding may leave a uniform distribution a little above log V.
    signal = np.clip(scores.entropy / math.log(scores.vocabulary), 0.0, 1.0)
    edges = np.linspace(0.0, 1.0, BINS + 1)
    right, wrong = (np.histogram(signal[chosen], edges)[0] for chosen in (scores.correct, ~scores.correct))
    return {"edges": edges.tolist(), "right": right.tolist(), "wrong": wrong.tolist()}
