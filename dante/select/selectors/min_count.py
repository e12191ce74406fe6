"""The answer with the fewest teacher sentences: the opposite of what DASD keeps."""

from dante.select.candidate import Candidate
from dante.select.selectors.base import Best


class MinCount(Best):
    """Fewest teacher sentences: a control."""

    def score(self, candidate: Candidate) -> float:
        return -float(candidate.teacher_sentences)
