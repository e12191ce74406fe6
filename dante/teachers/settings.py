"""What a `teacher` step may be told."""

from dante.run.config.schema import Strict, Target


class Settings(Strict):
    make: Target
