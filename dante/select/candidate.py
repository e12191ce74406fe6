"""One of several answers to a prompt, with what selectors may look at."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int64

from dante.cache.records.record import Record
from dante.select.labels import Type, Types


@dataclass(frozen=True)
class Candidate:
    """An answer as teacher and student see it; nothing else of a prompt's other answers.

    Attributes:
        record: the answer.
        teacher: sentence probabilities under the teacher.
        student: the same under the student.
        types: of its sentences, before training.
        nats: −log p of each of the student's tokens under the student.
        ranks: place of each of them in the student's next-token distribution, the most likely one is 1.
    """

    record: Record
    teacher: Float[np.ndarray, " sentences"]
    student: Float[np.ndarray, " sentences"]
    types: Types
    nats: Float[np.ndarray, " tokens"]
    ranks: Int64[np.ndarray, " tokens"]

    @property
    def tokens(self) -> int:
        return len(self.nats)

    @cached_property
    def teacher_sentences(self) -> int:
        """How many of its sentences are the teacher's."""
        return int((self.types == Type.TEACHER).sum())

    @property
    def sentences(self) -> int:
        """How many have a type."""
        return int((self.types != Type.NONE).sum())
