"""The teacher's uncertainty from its top-K log-probabilities, in nats. The only place with this arithmetic.

For one position with the K largest probabilities p_1 >= … >= p_K at temperature 1, the unknown tail has mass
r = 1 - Σ p_k over V - K tokens, each of probability at most min(r, p_K). The true entropy H then satisfies

    -Σ p log p - r log min(r, p_K)   <=   H   <=   -Σ p log p - r log r + r log(V - K)

(left: the tail as concentrated as the order allows; right: the tail spread evenly). A record's `output_entropy` is
the mean over the tokens of `teacher_text` of the left side, `output_entropy_upper` of the right side. The end-of-turn
token is not part of the text and does not count. The DANTE-Mosaic-3.5B card names the field and no definition: [I].
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray


def entropy_bounds(
    top_logprobs: Float[ndarray, "tokens k"], vocabulary: int
) -> tuple[Float[ndarray, " tokens"], Float[ndarray, " tokens"]]:
    """Lower and upper bound of the next-token entropy per position, in nats.

    Args:
        top_logprobs: the K largest natural log-probabilities per position at temperature 1, in falling order.
        vocabulary: V, number of entries of the distribution.
    """
    logprobs = np.asarray(top_logprobs, dtype=np.float64)
    k = logprobs.shape[1]
    probabilities = np.exp(logprobs)
    # 0 log 0 = 0; a log-probability of -inf would make it NaN.
    kept = -np.sum(np.where(probabilities > 0, probabilities * np.where(probabilities > 0, logprobs, 0.0), 0.0), axis=1)
    tail = np.maximum(0.0, 1.0 - probabilities.sum(axis=1)) if vocabulary > k else np.zeros(len(logprobs))
    has_tail = tail > 0
    log_tail = np.log(np.where(has_tail, tail, 1.0))
    log_largest = np.minimum(log_tail, logprobs[:, -1])
    lower = kept - np.where(has_tail, tail * np.where(has_tail, log_largest, 0.0), 0.0)
    upper = kept + np.where(has_tail, tail * (np.log(max(vocabulary - k, 1)) - log_tail), 0.0)
    # Rounded log-probabilities can leave a tail smaller than its own rounding; the order of the bounds is kept.
    lower = np.maximum(lower, 0.0)
    return lower, np.maximum(lower, upper)


def mean_entropy_bounds(top_logprobs: Float[ndarray, "tokens k"], vocabulary: int) -> tuple[float, float]:
    """Mean of both bounds over the positions, in nats per token."""
    lower, upper = entropy_bounds(top_logprobs, vocabulary)
    return float(lower.mean()), float(upper.mean())


def confidence_weight(entropy: Float[ndarray, " records"]) -> Float[ndarray, " records"]:
    """w(H) = 0.30 + 0.70 / (1 + exp(1.5 (H - 1.5))), H in nats per token (DANTE-Mosaic-3.5B card [C]).

    For statistics of a cache; the loss has its own, with the constants as parameters.
    """
    return 0.30 + 0.70 / (1.0 + np.exp(1.5 * (np.asarray(entropy, dtype=np.float64) - 1.5)))
