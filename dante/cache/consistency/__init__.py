"""Self-consistency: how many of several samples agree on the final answer."""

from dante.cache.consistency.extractors import (
    Boxed,
    CodeBlock,
    Extractor,
    FirstThatFits,
    LastNumber,
    MeanSimilarity,
    NormalisedText,
)
from dante.cache.consistency.measure import SelfConsistency

__all__ = [
    "Boxed",
    "CodeBlock",
    "Extractor",
    "FirstThatFits",
    "LastNumber",
    "MeanSimilarity",
    "NormalisedText",
    "SelfConsistency",
]
