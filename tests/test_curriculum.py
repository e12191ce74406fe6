"""Curricula: who is drawn how often, in which order, and that a small budget sees a uniform sample."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dante.data.curriculum import BucketedShuffle, Competence, Curriculum, Shuffled, SortedEachEpoch, SortedOnceRepeat
from dante.errors import DanteError

BALANCED: list[Curriculum] = [SortedOnceRepeat(), SortedEachEpoch(), BucketedShuffle(buckets=4), Shuffled()]
ALL: list[Curriculum] = [*BALANCED, Competence(initial=0.1, full_at=0.5, power=2)]

budgets = st.tuples(st.integers(1, 40), st.integers(0, 150), st.integers(0, 2**31))


def entropies(records: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 0.3, size=records)


def name(curriculum: Curriculum) -> str:
    return type(curriculum).__name__


@pytest.mark.parametrize("curriculum", BALANCED, ids=name)
@given(budget=budgets)
@settings(max_examples=40, deadline=None)
def test_balanced_curricula_draw_every_record_equally_often_up_to_one(curriculum, budget):
    records, draws, seed = budget
    rows = curriculum.order(entropies(records), draws, seed)
    times = np.bincount(rows, minlength=records)
    assert rows.shape == (draws,)
    assert times.min() >= draws // records
    assert times.max() <= -(-draws // records)


@pytest.mark.parametrize("curriculum", ALL, ids=name)
@given(budget=budgets)
@settings(max_examples=15, deadline=None)
def test_order_is_a_function_of_entropy_draws_and_seed(curriculum, budget):
    records, draws, seed = budget
    first = curriculum.order(entropies(records), draws, seed)
    np.random.random(3)  # the global generator must not matter
    np.testing.assert_array_equal(first, curriculum.order(entropies(records), draws, seed))
    assert set(first.tolist()) <= set(range(records))


@pytest.mark.parametrize("curriculum", ALL, ids=name)
def test_small_budget_sees_a_uniform_sample_not_the_easiest(curriculum):
    entropy = np.sort(entropies(1000))
    means = [entropy[np.unique(curriculum.order(entropy, 200, seed))].mean() for seed in range(20)]
    if isinstance(curriculum, Competence):  # prefers easy records, but of a sample that reaches to the hardest
        hardest = max(curriculum.order(entropy, 200, seed).max() for seed in range(20))
        assert hardest > 950
    else:
        assert np.mean(means) == pytest.approx(entropy.mean(), rel=0.05)


def test_sorted_once_repeat_is_one_ascending_pass_with_repeats_in_a_row():
    entropy = entropies(10)
    rows = SortedOnceRepeat().order(entropy, 33, seed=1)
    assert (np.diff(entropy[rows]) >= 0).all()
    runs = 1 + (np.diff(rows) != 0).sum()
    assert runs == 10


def test_who_is_repeated_once_more_is_a_uniform_choice():
    entropy = np.arange(10.0)
    extra = sum((np.bincount(SortedOnceRepeat().order(entropy, 15, seed), minlength=10) - 1) for seed in range(200))
    assert extra.min() > 60, "each record is an extra in about half of the seeds"


def test_sorted_each_epoch_sorts_every_pass_and_the_rest():
    entropy = entropies(10)
    rows = SortedEachEpoch().order(entropy, 25, seed=1)
    for begin, end in ((0, 10), (10, 20), (20, 25)):
        assert (np.diff(entropy[rows[begin:end]]) >= 0).all()
        assert len(set(rows[begin:end])) == end - begin


def test_buckets_rise_and_are_shuffled_inside():
    entropy = np.arange(100.0)
    rows = BucketedShuffle(buckets=4).order(entropy, 200, seed=3)
    for begin in range(0, 200, 25):
        bucket = rows[begin : begin + 25]
        first = (begin % 100) // 25 * 25
        np.testing.assert_array_equal(np.sort(bucket), np.arange(first, first + 25))
        assert (np.diff(bucket) < 0).any()
    assert not np.array_equal(rows[:100], rows[100:]), "passes are shuffled independently"


def test_competence_follows_its_curve():
    curriculum = Competence(initial=0.1, full_at=0.5, power=2)
    progress = np.array([0.0, 0.25, 0.5, 0.9])
    middle = np.sqrt(0.5 * (1 - 0.01) + 0.01)
    np.testing.assert_allclose(curriculum.competence(progress), [0.1, middle, 1.0, 1.0])
    entropy = np.arange(1000.0)[::-1].copy()
    difficulty = entropy[curriculum.order(entropy, 4000, seed=0)]
    share = np.arange(4000) / 4000
    assert (difficulty < np.ceil(curriculum.competence(share) * 1000)).all()
    assert difficulty[:200].max() < 400
    assert difficulty[2000:].mean() == pytest.approx(499.5, rel=0.05), "uniform once all records are open"


def test_competence_opens_whole_records_and_the_last_of_them_is_drawn():
    """Half of three records are two: a share is rounded up, so that some record is always open."""
    curriculum = Competence(initial=0.5, full_at=1.0, power=1)
    first = {int(curriculum.order(np.arange(3.0), 6, seed)[0]) for seed in range(40)}
    assert first == {0, 1}


def test_equal_entropies_keep_the_order_of_the_cache():
    np.testing.assert_array_equal(SortedOnceRepeat().order(np.zeros(5), 5, seed=9), np.arange(5))


def test_bad_input_is_named():
    with pytest.raises(DanteError, match="row 1 is nan"):
        Shuffled().order(np.array([0.1, np.nan]), 2, seed=0)
    with pytest.raises(DanteError, match="no record"):
        Shuffled().order(np.zeros(0), 2, seed=0)
    with pytest.raises(DanteError, match=r"fit\.curriculum\.buckets"):
        BucketedShuffle(buckets=0)
    with pytest.raises(DanteError, match=r"fit\.curriculum\.full_at"):
        Competence(initial=0.1, full_at=1.5, power=2)
