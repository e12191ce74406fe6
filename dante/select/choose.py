"""From a cache's answers, several to a prompt, and a student's side of them to one answer to each prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dante.cache.records.record import Record, prompt_hash
from dante.run.config.schema import Beta
from dante.select.candidate import Candidate
from dante.select.labels import Probabilities, automatic_beta, before_training
from dante.select.likelihood.files import Likelihood
from dante.select.sampled import no_logprobs
from dante.select.selectors.base import Selector
from dante.select.sentence_scores import sentence_scores
from dante.text.sentences import Sentence, sentences


@dataclass(frozen=True)
class Read:
    """An answer in sentences, as teacher and student see them.

    Attributes:
        record: the answer.
        spans: its sentences, in characters.
        teacher: their probabilities under the teacher.
        student: the same under the student.
    """

    record: Record
    spans: list[Sentence]
    teacher: Float[np.ndarray, " sentences"]
    student: Float[np.ndarray, " sentences"]


def read(record: Record, likelihood: Likelihood) -> Read:
    """One answer.

    Raises:
        DanteError: the teacher's log-probabilities are not in the cache.
    """
    if record.token_logprobs is None or record.token_ends is None:
        raise no_logprobs(record)
    text, spans = record.teacher_text, sentences(record.teacher_text)
    teacher = sentence_scores(text, spans, record.token_ends, record.token_logprobs)
    student = sentence_scores(text, spans, likelihood.end.tolist(), (-likelihood.nats).tolist())
    return Read(record, spans, teacher.probability, student.probability)


def beta_of(beta: Beta, answers: Sequence[Read]) -> float:
    """β as it was given; `auto`: from the answers' own differences."""
    return automatic_beta(*both_sides(answers)) if beta == "auto" else beta


def both_sides(answers: Sequence[Read]) -> tuple[Probabilities, Probabilities]:
    """Probabilities of all sentences of all answers, under the teacher and under the student."""
    return np.concatenate([one.teacher for one in answers]), np.concatenate([one.student for one in answers])


def candidates(answers: Sequence[Read], likelihoods: Sequence[Likelihood], beta: float) -> list[list[Candidate]]:
    """Answers by prompt, in the order of the cache; of a prompt in the order in which they were sampled."""
    groups: dict[str, list[Candidate]] = {}
    for one, likelihood in zip(answers, likelihoods, strict=True):
        types = before_training(one.teacher, one.student, beta)
        nats, ranks = likelihood.nats.astype(np.float64), likelihood.rank.astype(np.int64)
        candidate = Candidate(one.record, one.teacher, one.student, types, nats, ranks)
        groups.setdefault(prompt_hash(one.record.prompt), []).append(candidate)
    return [sorted(group, key=lambda candidate: candidate.record.sample_index) for group in groups.values()]


def choose(groups: Sequence[Sequence[Candidate]], selector: Selector, seed: int) -> list[Candidate]:
    """One answer to each prompt."""
    return [selector.choose(group, seed) for group in groups]
