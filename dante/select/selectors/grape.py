"""The answer that the student finds likeliest."""

from dante.select.candidate import Candidate
from dante.select.selectors.base import Best


class Grape(Best):
    """Highest mean log-likelihood of a token under the student [C: GRAPE, arXiv 2502.04194]."""

    def score(self, candidate: Candidate) -> float:
        return -float(candidate.nats.mean())
