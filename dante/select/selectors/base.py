"""What a selector is: a rule that keeps one of a prompt's answers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from dante.cache.records.record import stable_hash
from dante.select.candidate import Candidate


class Selector(ABC):
    """Keeps one of several answers to one prompt.

    Of answers that are equally good the one that was sampled first is kept: no draw, and no preference for length.
    """

    @abstractmethod
    def choose(self, candidates: Sequence[Candidate], seed: int) -> Candidate:
        """One of them.

        Args:
            candidates: at least one, in the order in which they were sampled.
            seed: of selectors that draw.
        """


class Best(Selector):
    """Keeps the answer of the highest score."""

    @abstractmethod
    def score(self, candidate: Candidate) -> float:
        """What is compared between a prompt's answers; the highest wins."""

    def choose(self, candidates: Sequence[Candidate], seed: int) -> Candidate:
        return max(candidates, key=self.score)


def drawn(candidates: Sequence[Candidate], seed: int) -> Candidate:
    """One of them at random: the same for the same prompt, answers and seed, whatever the other prompts are."""
    return min(candidates, key=lambda candidate: stable_hash(seed, candidate.record.id))
