"""The longest answer."""

from dante.select.candidate import Candidate
from dante.select.selectors.base import Best


class Longest(Best):
    """Most tokens of the student's: length alone explains part of what the number of teacher sentences gains."""

    def score(self, candidate: Candidate) -> float:
        return float(candidate.tokens)
