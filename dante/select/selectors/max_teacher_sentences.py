"""The answer with the most teacher sentences: what DASD keeps."""

from dante.select.candidate import Candidate
from dante.select.selectors.base import Best


class MaxTeacherSentences(Best):
    """Most sentences that the teacher finds likelier than the student, by more than β [C: DASD, 2601.09088]."""

    def score(self, candidate: Candidate) -> float:
        return float(candidate.teacher_sentences)
