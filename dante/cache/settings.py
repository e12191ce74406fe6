"""What a `cache` step may be told."""

from dante.run.config.schema import Index, Strict, Target


class Settings(Strict):
    source: Target
    seed: Index
