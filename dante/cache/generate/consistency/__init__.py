"""Self-consistency: how many of several samples agree on the final answer."""

from dante.cache.generate.consistency.extractors import (
    Boxed,
    CodeBlock,
    Extractor,
    FirstThatFits,
    LastNumber,
    MeanSimilarity,
    NormalisedText,
)
from dante.cache.generate.consistency.measure import SelfConsistency

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
