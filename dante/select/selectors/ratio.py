"""The answer with the largest share of teacher sentences."""

from dante.select.candidate import Candidate
from dante.select.selectors.base import Best


class Ratio(Best):
    """Largest share of teacher sentences: does their number count, or how rich an answer is in them?"""

    def score(self, candidate: Candidate) -> float:
        return candidate.teacher_sentences / max(candidate.sentences, 1)
