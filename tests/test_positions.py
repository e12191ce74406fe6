"""Where sentences of a type stand, and what selectors keep, against cases that are worked out by hand."""

import numpy as np
import pytest

from dante.cache.records.record import Record
from dante.select.candidate import Candidate
from dante.select.choices import compared, response_probability
from dante.select.labels import Type
from dante.select.positions import LEAST, Typed, curves
from dante.select.selectors.longest import Longest

T, C, N = Type.TEACHER, Type.COMMON, Type.NONE


def typed(right: bool, prompt: int, *types: Type) -> Typed:
    return Typed(str(prompt), right, np.array(types, dtype=np.int8))


def test_shares_by_position_and_the_area_between_them() -> None:
    answers = [typed(True, number, T, T if number < 5 else C) for number in range(10)]
    answers += [typed(False, number, T if number < 8 else C, C, T) for number in range(10)]
    found = curves(answers, Type.TEACHER, resamples=50, confidence=0.95, seed=0)
    assert found is not None
    assert found.right == [1.0, 0.5]  # the third position has no right answer
    assert found.wrong == [0.8, 0.0]
    assert found.answers == [(10, 10), (10, 10)]
    assert found.area == pytest.approx(100 * (0.2 + 0.5))
    assert found.low <= found.area <= found.high
    assert found.low < found.high


def test_a_sentence_without_a_type_counts_in_no_share() -> None:
    answers = [
        typed(right, number, *(2 * [N] if number % 2 else [T, C])) for right in (True, False) for number in range(20)
    ]
    found = curves(answers, Type.TEACHER, resamples=20, confidence=0.9, seed=0)
    assert found is not None
    assert found.right == [1.0, 0.0]
    assert found.answers[0] == (10, 10)


def test_too_few_answers_have_no_curve() -> None:
    few = [typed(right, number, T) for right in (True, False) for number in range(LEAST - 1)]
    assert curves(few, Type.TEACHER, resamples=20, confidence=0.9, seed=0) is None


def test_answers_to_one_prompt_are_resampled_together() -> None:
    """All answers of a prompt are alike: only the number of prompts can narrow the interval."""
    pairs = [(number % 2 == 0, number) for number in range(40)]
    once = [typed(right, number, T if number % 4 == 0 else C) for right, number in pairs]
    often = [one for one in once for _ in range(9)]
    widths = []
    for answers in (once, often):
        found = curves(answers, Type.TEACHER, resamples=400, confidence=0.95, seed=1)
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.01)


def candidate(name: str, logprobs: list[float], tokens: int, correct: bool) -> Candidate:
    record = Record(name, "Ask?", "x", 0.1, token_logprobs=logprobs, correct=correct)
    types = np.array([Type.TEACHER, Type.COMMON], dtype=np.int8)
    two, nats = np.ones(2), np.zeros(tokens)
    return Candidate(record, two, two, types, nats, np.ones(tokens, dtype=np.int64))


def test_what_a_selector_keeps_is_described() -> None:
    groups = [
        [candidate("a", [np.log(0.5)] * 3, 3, True), candidate("b", [np.log(0.9), np.log(0.4)], 9, False)],
        [candidate("c", [np.log(0.25)], 5, False)],
    ]
    assert response_probability(groups[0][1]) == pytest.approx(0.6)
    found = compared(groups, {"longest": Longest()}, seed=0)
    assert found["all"]["answers"] == 3
    assert found["all"]["right"] == pytest.approx(1 / 3)
    kept = found["longest"]  # b and c
    assert (kept["answers"], kept["tokens"], kept["right"]) == (2, 7.0, 0.0)
    assert kept["probability"] == pytest.approx((0.6 + 0.25) / 2)
    assert kept["teacher_sentences"] == 1.0
    assert kept["shift"] == pytest.approx(2 / 3 - 1 / 2)
    assert sum(kept["histogram"]) == 2


def test_many_answers_to_few_prompts_have_no_curve() -> None:
    few = [typed(right, number % 3, T) for right in (True, False) for number in range(60)]
    assert curves(few, Type.TEACHER, resamples=20, confidence=0.9, seed=0) is None
