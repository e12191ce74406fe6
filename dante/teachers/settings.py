"""What a `teacher` step may be told."""

from dante.run.schema import Strict, Target


class Settings(Strict):
    make: Target
