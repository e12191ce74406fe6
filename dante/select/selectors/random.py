"""Any answer."""

from collections.abc import Sequence

from dante.select.candidate import Candidate
from dante.select.selectors.base import Selector, drawn


class Random(Selector):
    """One at random, by the seed and the answers' ids: what the others have to beat."""

    def choose(self, candidates: Sequence[Candidate], seed: int) -> Candidate:
        return drawn(candidates, seed)
