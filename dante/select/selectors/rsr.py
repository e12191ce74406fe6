"""Informative and near: the lowest ratio of rank to surprisal."""

from math import inf

from dante.errors import DanteError
from dante.select.candidate import Candidate
from dante.select.selectors.base import Best


class Rsr(Best):
    """Lowest Rank-Surprisal Ratio [C: arXiv 2601.14249].

    Mean rank of the tokens under the student, each clipped, over their mean negative log-likelihood: what is surprising
    and yet among the first choices teaches most.

    Args:
        clip: highest rank that counts; the paper's is 100.
    """

    def __init__(self, clip: int) -> None:
        if clip < 1:
            raise DanteError(
                f"ranks clipped at {clip}", where="selector.clip", allowed="1 or more", fix="selector.clip=100"
            )
        self.clip = clip

    def score(self, candidate: Candidate) -> float:
        surprisal = float(candidate.nats.sum())
        return -float(candidate.ranks.clip(max=self.clip).sum()) / surprisal if surprisal else -inf
