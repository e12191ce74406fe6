"""Types of sentences and choices among answers, on cases whose answer is known."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dante.cache import Record
from dante.errors import DanteError
from dante.select.candidate import Candidate
from dante.select.labels import AFTER, BEFORE, Type, after_training, automatic_beta, before_training, shares
from dante.select.selectors.base import Selector
from dante.select.selectors.grape import Grape
from dante.select.selectors.longest import Longest
from dante.select.selectors.longest_matched import LongestMatched
from dante.select.selectors.max_teacher_sentences import MaxTeacherSentences
from dante.select.selectors.min_count import MinCount
from dante.select.selectors.random import Random
from dante.select.selectors.ratio import Ratio
from dante.select.selectors.rsr import Rsr

PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def test_three_types() -> None:
    teacher = np.array([0.9, 0.2, 0.5, 0.5, 0.5, np.nan])
    student = np.array([0.7, 0.4, 0.45, 0.4, 0.6, 0.5])
    types = before_training(teacher, student, beta=0.1)
    # 0.5 - 0.4 is a hair below 0.1 in floating point, 0.6 - 0.5 likewise: neither is above β
    assert [Type(t).word for t in types] == ["teacher", "student", "common", "common", "common", "none"]
    assert shares(types, BEFORE) == {"teacher": 0.2, "student": 0.2, "common": 0.6}


def test_a_difference_not_a_ratio() -> None:
    """Both pairs differ by a factor of 100; only the second by more than β."""
    types = before_training(np.array([1e-2, 0.5]), np.array([1e-4, 5e-3]), beta=0.1)
    assert types.tolist() == [Type.COMMON, Type.TEACHER]


def test_four_types_in_the_papers_order() -> None:
    teacher = np.array([0.50, 0.9, 0.2, 0.50, 0.50, 0.5])
    student = np.array([0.45, 0.3, 0.8, 0.50, 0.41, 0.5])
    distilled = np.array([0.48, 0.9, 0.8, 0.90, 0.52, np.nan])
    types = after_training(teacher, student, distilled, alpha=0.1, beta=0.1)
    # the fifth: 0.52 - 0.41 is above α, and Δ is not above β
    assert [Type(t).word for t in types] == ["shared", "teacher", "student", "boosted", "boosted", "none"]
    wide = after_training(teacher, student, distilled, alpha=0.7, beta=0.1)
    assert [Type(t).word for t in wide][:2] == ["shared", "shared"]  # shared comes first


@given(PROBABILITIES, st.floats(0.01, 0.5), st.integers(0, 2**32 - 1))
def test_types_partition_the_sentences(teacher: list[float], beta: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ours, student, distilled = np.array(teacher), rng.random(len(teacher)), rng.random(len(teacher))
    assert sum(shares(before_training(ours, student, beta), BEFORE).values()) == pytest.approx(1)
    after = after_training(ours, student, distilled, beta, beta)
    assert sum(shares(after, AFTER).values()) == pytest.approx(1)
    swapped = before_training(student, ours, beta)
    mirrored = {Type.TEACHER: Type.STUDENT, Type.STUDENT: Type.TEACHER, Type.COMMON: Type.COMMON}
    assert [mirrored[Type(t)] for t in before_training(ours, student, beta)] == swapped.tolist()


def test_beta_from_the_data_lies_between_two_heaps() -> None:
    rng = np.random.default_rng(0)
    gaps = np.concatenate([rng.uniform(0, 0.05, 300), rng.uniform(0.3, 0.4, 100)])
    student = rng.uniform(0, 0.5, 400)
    assert 0.05 <= automatic_beta(student + gaps, student) <= 0.3
    assert math.isnan(automatic_beta(np.array([np.nan]), np.array([0.5])))


def candidate(name: str, types: str, nats: list[float], ranks: list[int] | None = None) -> Candidate:
    """`types` in letters: t, s, c and n for no type."""
    kinds = {"t": Type.TEACHER, "s": Type.STUDENT, "c": Type.COMMON, "n": Type.NONE}
    record = Record(name, "ask", "an answer", 0.1)
    empty = np.zeros(len(types))
    codes = np.array([kinds[letter] for letter in types], dtype=np.int8)
    places = np.array(ranks or [1] * len(nats), dtype=np.int64)
    return Candidate(record, empty, empty, codes, np.array(nats), places)


# Five answers of which each is one selector's choice, and the sixth nobody's.
ANSWERS = [
    candidate("some", "tc", [1.0] * 10),
    candidate("most", "tttcccc", [1.0] * 20),
    candidate("rich", "tt", [2.0] * 8),
    candidate("long", "cccs", [1.0] * 40),
    candidate("likely", "cc", [0.1] * 10, [1] * 10),
    candidate("near", "tsn", [5.0] * 10, [2] * 10),
]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (MaxTeacherSentences(), "most"),
        (MinCount(), "long"),  # the first one without any
        (Ratio(), "rich"),
        (Longest(), "long"),
        (Grape(), "likely"),
        (Rsr(100), "near"),  # 2 / 5
        (Rsr(1), "near"),
    ],
)
def test_what_each_selector_keeps(selector: Selector, expected: str) -> None:
    assert selector.choose(ANSWERS, seed=0).record.id == expected
    assert selector.choose(ANSWERS[-1:], seed=0) is ANSWERS[-1]


def test_ranks_are_clipped() -> None:
    far, near = candidate("far", "c", [6.0, 6.0], [10_000, 1]), candidate("near", "c", [2.0, 2.0], [30, 30])
    assert Rsr(100).choose([near, far], 0) is far  # 101/12 = 8.4 against 15
    assert Rsr(100_000).choose([near, far], 0) is near
    assert Rsr(100).choose([candidate("sure", "c", [0.0]), near], 0) is near  # nothing surprises: nothing to learn


def test_of_equal_answers_the_first_is_kept() -> None:
    same = [candidate(str(index), "tc", [1.0]) for index in range(4)]
    for selector in (MaxTeacherSentences(), MinCount(), Ratio(), Longest(), Grape(), Rsr(100)):
        assert selector.choose(same, 0) is same[0]


def test_a_draw_depends_on_seed_and_answers_alone() -> None:
    names = {seed: Random().choose(ANSWERS, seed).record.id for seed in range(40)}
    assert len(set(names.values())) == len(ANSWERS)
    assert {seed: Random().choose(ANSWERS[::-1], seed).record.id for seed in range(40)} == names


def test_as_long_as_what_another_keeps() -> None:
    answers = [*ANSWERS, candidate("alike", "c", [1.0] * 21), candidate("longer", "c", [1.0] * 23)]
    selector = LongestMatched(MaxTeacherSentences(), tolerance=0.1)
    kept = {selector.choose(answers, seed).record.id for seed in range(40)}
    assert kept == {"most", "alike"}  # 20, 21; 23 is more than a tenth longer
    assert {LongestMatched(Ratio(), 0.0).choose(answers, seed).record.id for seed in range(9)} == {"rich"}


@pytest.mark.parametrize(
    "wrong", [lambda: Rsr(0), lambda: LongestMatched(Longest(), 1.0), lambda: LongestMatched(Longest(), -0.1)]
)
def test_wrong_settings_are_refused(wrong: Any) -> None:
    with pytest.raises(DanteError, match="selector"):
        wrong()
