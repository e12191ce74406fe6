"""What a model says of each sentence of a text, from what it says of the tokens: for any tokenizer.

The probability of a sentence is the geometric mean of its tokens' probabilities, `p = exp(mean_k log p_k)` [C: DASD,
arXiv 2601.09088], so that two models with different tokenizers can be compared on one sentence. A token belongs to the
sentence in which it ends: one that carries the space before a word belongs to the word. A token that adds no character
(part of one that later tokens complete) belongs to the token that completes it. Every token has exactly one sentence,
so log-probabilities over sentences sum to the text's.

Shape suffixes: K tokens, S sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from dante.text.sentences import Sentence


@dataclass(frozen=True)
class SentenceScores:
    """Per sentence.

    Attributes:
        logprob: sum of its tokens' log-probabilities, in nats.
        tokens: how many.
    """

    logprob: Float64[np.ndarray, " sentences"]
    tokens: Int64[np.ndarray, " sentences"]

    @property
    def probability(self) -> Float64[np.ndarray, " sentences"]:
        """Geometric mean of its tokens' probabilities; NaN where no token ends in it."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.exp(self.logprob / self.tokens)

    @property
    def of_text(self) -> float:
        """Geometric mean over all tokens of the text."""
        return float(np.exp(self.logprob.sum() / max(int(self.tokens.sum()), 1)))


def sentence_scores(
    text: str, spans: Sequence[Sentence], token_ends: Sequence[int], token_logprobs: Sequence[float]
) -> SentenceScores:
    """Sums over sentences.

    Args:
        text: the answer.
        spans: its sentences.
        token_ends: where each token ends in the UTF-8 bytes of the text, rising.
        token_logprobs: of the tokens, in nats.
    """
    sentence_K = sentence_of_tokens(byte_ends(text, spans), token_ends)
    logprobs_K = np.asarray(token_logprobs, dtype=np.float64)
    return SentenceScores(
        logprob=np.bincount(sentence_K, weights=logprobs_K, minlength=len(spans)).astype(np.float64),
        tokens=np.bincount(sentence_K, minlength=len(spans)),
    )


def byte_ends(text: str, spans: Sequence[Sentence]) -> Int64[np.ndarray, " sentences"]:
    """Where sentences end in the UTF-8 bytes of the text."""
    return np.cumsum([len(text[start:end].encode("utf-8")) for start, end in spans], dtype=np.int64)


def sentence_of_tokens(
    sentence_ends: Int64[np.ndarray, " sentences"], token_ends: Sequence[int]
) -> Int64[np.ndarray, " tokens"]:
    """Which sentence each token belongs to.

    Args:
        sentence_ends: in bytes, rising; the last one is the end of the text.
        token_ends: in bytes, rising, none behind the end of the text.
    """
    ends_K = np.asarray(token_ends, dtype=np.int64)
    if not len(ends_K):
        return ends_K
    # A token without a character of its own goes with the next one that has some: the last place of equal ends before.
    adds_K = np.diff(ends_K, prepend=0) > 0
    places_K = np.where(adds_K, np.arange(len(ends_K)), len(ends_K))
    following_K = np.minimum.accumulate(places_K[::-1])[::-1]
    completed_K = ends_K[np.minimum(following_K, len(ends_K) - 1)]
    return np.searchsorted(sentence_ends, completed_K, side="left").clip(max=len(sentence_ends) - 1)
