"""Any answer that is as long as the one that another selector keeps."""

from collections.abc import Sequence

from dante.errors import DanteError
from dante.select.candidate import Candidate
from dante.select.selectors.base import Selector, drawn


class LongestMatched(Selector):
    """One at random among the answers of the length of the one that another selector keeps, that one included.

    It has the other's length without its reason: what the other gains over it, length does not explain [I].

    Args:
        of: the other selector.
        tolerance: largest difference of lengths, as a share of the other's length in the student's tokens.
    """

    def __init__(self, of: Selector, tolerance: float) -> None:
        if not 0 <= tolerance < 1:
            raise DanteError(
                f"a tolerance of {tolerance}",
                where="selector.tolerance",
                allowed="a share from 0 to below 1",
                fix="selector.tolerance=0.15",
            )
        self.of, self.tolerance = of, tolerance

    def choose(self, candidates: Sequence[Candidate], seed: int) -> Candidate:
        kept = self.of.choose(candidates, seed)
        reach = self.tolerance * kept.tokens
        return drawn([one for one in candidates if abs(one.tokens - kept.tokens) <= reach], seed)
