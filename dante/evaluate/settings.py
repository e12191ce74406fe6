"""What a `score` and an `eval` step may be told."""

from typing import Any, Literal

from pydantic import model_validator

from dante.run.config.schema import Confidence, Count, Measure, Target


class Measured(Measure):
    """How one model of a run is measured."""

    chat: dict[str, Any]


class Score(Measured):
    """One model that no fit has made; a teacher's answers are in the cache, and it writes none."""

    model: Literal["teacher", "init"]
    max_new_tokens: Count | None = None
    loop: Target | None = None

    @model_validator(mode="after")
    def answers_end(self) -> "Score":
        if self.generations and (self.max_new_tokens is None or self.loop is None):
            raise ValueError("generations need max_new_tokens and loop, which say where an answer ends")
        return self


class Eval(Measured):
    """The student, beside what was measured before."""

    max_new_tokens: Count
    loop: Target
    bootstrap: Count
    confidence: Confidence
