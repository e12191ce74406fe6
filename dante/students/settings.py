"""What an `init` step may be told: the student, as the configuration's root has it."""

from dante.run.config.schema import Student


class Settings(Student):
    pass
