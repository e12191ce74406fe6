"""pass@k: how likely one of k programs is right, from n that were tried."""

from math import comb


def pass_at_k(tried: int, right: int, k: int) -> float:
    """The unbiased estimate `1 − C(n−c, k) / C(n, k)` (Chen et al., arXiv 2107.03374, equation 1) [C].

    Args:
        tried: n programs.
        right: c of them pass.
        k: at most n.

    Raises:
        ValueError: k programs cannot be drawn from n.
    """
    if not 0 < k <= tried or not 0 <= right <= tried:
        raise ValueError(f"pass@{k} of {right} right programs in {tried}")
    return 1.0 - comb(tried - right, k) / comb(tried, k)
