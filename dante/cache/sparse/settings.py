"""What a `logits` step may be told."""

from dante.run.config.schema import Count, Index, Strict, Target, Text


class Settings(Strict):
    kind: Text
    size: Count
    seed: Index
    engine: Target
