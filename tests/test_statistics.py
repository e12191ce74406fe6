"""What judges a comparison: agreement with scipy by other ways, with truth where it is known, and at the edges."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from dante.statistics.correction import benjamini_hochberg, holm
from dante.statistics.crossed import compare_ratios, compare_values, influence
from dante.statistics.power import detectable, power, seeds_to_decide
from dante.statistics.ratio import Ratio, mean

Runs = dict[int, Ratio]


def runs_of(values: np.ndarray) -> Runs:
    """[seeds, items] as plain means over items."""
    return {seed: mean(row) for seed, row in enumerate(values)}


def drawn(rng: np.random.Generator, seeds: int, items: int, of_seed: float, of_item: float) -> np.ndarray:
    """Differences with a seed's, an item's and a remaining part; the remaining one has standard deviation 1."""
    own = rng.normal(size=(seeds, items))
    return own + of_seed * rng.normal(size=(seeds, 1)) + of_item * rng.normal(size=(1, items))


def mean_squares(d: np.ndarray) -> tuple[float, float, float]:
    """Seeds, items and residual by least squares on dummies, one factor dropped at a time."""
    seeds, items = d.shape
    of_seed = np.repeat(np.eye(seeds), items, axis=0)
    of_item = np.tile(np.eye(items), (seeds, 1))
    one = np.ones((seeds * items, 1))

    def left(*columns: np.ndarray) -> float:
        design = np.hstack(columns)
        solution = np.linalg.lstsq(design, d.ravel(), rcond=None)[0]
        return float(np.square(d.ravel() - design @ solution).sum())

    rest = left(one, of_seed, of_item)
    df = (seeds - 1, items - 1, (seeds - 1) * (items - 1))
    return (left(one, of_item) - rest) / df[0], (left(one, of_seed) - rest) / df[1], rest / df[2]


def test_seeds_alone_are_scipy_s_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5))
    mine = compare_values(dict(enumerate(a)), dict(enumerate(b)), confidence=0.9)
    theirs = stats.ttest_rel(a, b)
    interval = theirs.confidence_interval(0.9)
    assert (mine.p, mine.df, mine.low, mine.high) == pytest.approx((theirs.pvalue, 4, interval.low, interval.high))
    assert (mine.covers, mine.paired, mine.items) == ("seeds", True, 0)


def test_items_of_one_seed_are_scipy_s_one_sample_t_test() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 1, 30))
    mine = compare_ratios(runs_of(a), runs_of(b), confidence=0.95)
    theirs = stats.ttest_1samp((a - b)[0], 0.0)
    interval = theirs.confidence_interval(0.95)
    assert (mine.p, mine.df, mine.low, mine.high) == pytest.approx((theirs.pvalue, 29, interval.low, interval.high))
    assert mine.covers == "items"
    assert "does not cover another seed" in mine.notes[0]


def test_a_ratio_s_error_over_items_is_the_delta_method_s() -> None:
    rng = np.random.default_rng(2)
    size = rng.integers(50, 900, size=80).astype(np.float64)
    a, b = Ratio(size * rng.normal(1, 0.3, 80), size), Ratio(np.zeros(80), np.ones(80))
    mine = compare_ratios({1: a}, {1: b}, confidence=0.95)
    assert mine.difference == pytest.approx(a.value)
    assert mine.stderr == pytest.approx(a.stderr)
    assert influence([a]).mean() == pytest.approx(a.value)


def test_no_common_seed_is_welch_s_test_over_seeds() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 4), rng.normal(1, 3, 6)
    mine = compare_values(dict(enumerate(a)), {10 + i: v for i, v in enumerate(b)}, confidence=0.95)
    theirs = stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert (mine.p, mine.df, mine.low, mine.high) == pytest.approx(
        (theirs.pvalue, theirs.df, interval.low, interval.high)
    )
    assert not mine.paired
    assert "no common seed" in mine.notes[0]


@pytest.mark.parametrize(("of_seed", "of_item"), [(0.3, 1.5), (0.3, 3.0)])
def test_crossed_error_and_degrees_of_freedom_come_from_mean_squares(of_seed: float, of_item: float) -> None:
    """Against sums of squares by least squares, and Satterthwaite's formula written out."""
    d = drawn(np.random.default_rng(2), 6, 40, of_seed, of_item)
    base = np.random.default_rng(5).normal(size=d.shape)
    mine = compare_ratios(runs_of(base + d), runs_of(base), confidence=0.95)
    seed, item, rest = mean_squares(d)
    total = seed + item - rest
    assert total > max(seed, item)
    df = total**2 / (seed**2 / 5 + item**2 / 39 + rest**2 / 195)
    over_seeds = stats.ttest_1samp(d.mean(axis=1), 0.0)
    wide = np.sqrt(total / d.size) * stats.t.ppf(0.975, df)
    narrow = over_seeds.confidence_interval(0.95)
    assert wide > (narrow.high - narrow.low) / 2
    assert (mine.high - mine.difference, mine.df) == pytest.approx((wide, df))
    assert mine.p == pytest.approx(2 * stats.t.sf(abs(d.mean()) / np.sqrt(total / d.size), df))
    assert mine.covers == "seeds and items"


def test_where_seeds_are_all_that_differs_the_t_test_over_seeds_judges() -> None:
    """Items that move together tell nothing about another seed: 1,000 of them are worth as much as one."""
    shift = np.array([0.011, 0.013, 0.004])
    base = np.random.default_rng(6).normal(size=(3, 1000))
    mine = compare_ratios(runs_of(base + shift[:, None]), runs_of(base), confidence=0.95)
    theirs = stats.ttest_1samp(shift, 0.0)
    assert (mine.p, mine.df) == pytest.approx((theirs.pvalue, 2))


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(("of_seed", "of_item"), [(0.0, 0.0), (0.3, 0.0), (0.3, 1.0), (1.0, 1.0)])
def test_equals_are_told_apart_as_rarely_as_promised(seeds: int, of_seed: float, of_item: float) -> None:
    """Over the mixtures of seed, item and rest in which the crossed test alone errs in up to 12 %."""
    rng = np.random.default_rng(7)
    zero = runs_of(np.zeros((seeds, 40)))
    draws = [runs_of(drawn(rng, seeds, 40, of_seed, of_item)) for _ in range(1000)]
    found = [compare_ratios(draw, zero, confidence=0.95) for draw in draws]
    assert np.mean([one.p < 0.05 for one in found]) <= 0.07  # type: ignore[operator]
    assert all((one.p < 0.05) == (not one.low <= 0 <= one.high) for one in found)  # type: ignore[operator]


def test_arms_without_a_common_seed_are_told_apart_as_rarely() -> None:
    rng = np.random.default_rng(8)
    hits = 0
    for _ in range(400):
        item = rng.normal(size=(1, 60))  # what makes an item hard for both arms
        a, b = (item + drawn(rng, 3, 60, 0.2, 0.3) for _ in range(2))
        one = compare_ratios(runs_of(a), {9 + s: r for s, r in runs_of(b).items()}, confidence=0.95)
        hits += one.p < 0.05  # type: ignore[operator]
    assert hits / 400 <= 0.07


def test_pairs_by_seed_number_and_says_which_seeds_it_left_out() -> None:
    rng = np.random.default_rng(9)
    base = rng.normal(size=(4, 50)) + 5 * rng.normal(size=(4, 1))  # seeds far apart
    shift = 0.5 + 0.01 * rng.normal(size=(4, 50))
    b = {seed: mean(base[seed]) for seed in (0, 1, 2)}
    a = {seed: mean(base[seed] + shift[seed]) for seed in (3, 2, 1)}
    mine = compare_ratios(a, b, confidence=0.95)
    assert mine.seeds_a == mine.seeds_b == (1, 2)
    assert mine.difference == pytest.approx(shift[[1, 2]].mean())
    assert mine.notes == ("only the common seeds: without 0, 3",)
    assert mine.stderr is not None
    assert mine.stderr < 0.02  # unpaired it would be in the order of 5


def test_edges_give_no_judgement_rather_than_a_wrong_one() -> None:
    nothing = compare_values({1: 2.0}, {1: 1.5}, confidence=0.95)
    assert (nothing.difference, nothing.p, nothing.low, nothing.covers) == (0.5, None, None, "nothing")
    same = compare_values({1: 0.25, 2: 0.5}, {1: 0.25, 2: 0.5}, confidence=0.95)
    assert (same.difference, same.p, same.low, same.high) == (0, 1, 0, 0)
    constant = compare_ratios(runs_of(np.ones((3, 9))), runs_of(np.zeros((3, 9))), confidence=0.95)
    assert (constant.difference, constant.p) == (1, None)
    assert "no spread" in constant.notes[0]
    empty = compare_ratios({1: Ratio(np.zeros(4), np.zeros(4))}, {1: mean(np.ones(4))}, confidence=0.95)
    assert np.isnan(empty.difference)
    assert (empty.p, empty.notes) == (None, ("nothing to divide by",))
    one_item = compare_ratios(runs_of(np.array([[1.0], [3.0]])), runs_of(np.array([[0.0], [1.0]])), confidence=0.95)
    assert (one_item.covers, one_item.items) == ("seeds", 0)
    with pytest.raises(ValueError, match="same items"):
        compare_ratios({1: mean(np.ones(4))}, {1: mean(np.ones(5))}, confidence=0.95)


def test_an_item_that_weighs_nothing_changes_no_value() -> None:
    rng = np.random.default_rng(10)
    size = rng.integers(5, 50, size=20).astype(np.float64)
    hits = [rng.binomial(size.astype(int), 0.6).astype(np.float64) for _ in range(4)]
    full = [Ratio(h, size) for h in hits]
    padded = [Ratio(np.append(h, 0.0), np.append(size, 0.0)) for h in hits]
    one, two = (compare_ratios({0: r[0], 1: r[1]}, {0: r[2], 1: r[3]}, confidence=0.95) for r in (full, padded))
    assert two.difference == pytest.approx(one.difference)


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    """A hypothesis is rejected when Bonferroni rejects every set that holds it."""
    rng = np.random.default_rng(11)
    for _ in range(20):
        p = rng.uniform(0, 0.2, size=5) ** 2
        sets = [s for size in range(1, 6) for s in itertools.combinations(range(5), size)]
        closed = [max(min(1.0, len(s) * min(p[list(s)])) for s in sets if place in s) for place in range(5)]
        assert holm(list(p)) == pytest.approx(closed)
    assert holm([0.03, None, 0.02]) == pytest.approx([0.04, None, 0.04])
    assert holm([]) == []


def test_false_discoveries_by_their_definition() -> None:
    """The largest k with p(k) ≤ k·q/m decides what is found at rate q."""
    rng = np.random.default_rng(12)
    p = rng.uniform(size=12) ** 3
    adjusted = benjamini_hochberg([*p[:6], None, *p[6:]])
    assert adjusted.pop(6) is None
    for rate in (0.01, 0.05, 0.2, 0.5):
        ranked = np.sort(p)
        passed = np.flatnonzero(ranked <= rate * np.arange(1, 13) / 12)
        cut = ranked[passed[-1]] if len(passed) else -1.0
        assert [one <= rate for one in adjusted] == list(p <= cut)  # type: ignore[operator]
    assert benjamini_hochberg([None]) == [None]


@pytest.mark.parametrize("n", [3, 4, 8, 30])
def test_detectable_difference_is_found_in_four_of_five_tests(n: int) -> None:
    """Simulated with scipy's t test, the truth at the difference that is called detectable."""
    smallest = detectable([(1 / n, n - 1.0)], level=0.05, power=0.8)
    assert smallest is not None
    samples = np.random.default_rng(13).normal(smallest, 1.0, size=(20_000, n))
    assert np.mean(stats.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.01)
    assert power(-smallest, n**-0.5, n - 1.0, level=0.05) == pytest.approx(0.8, abs=1e-6)


def test_detectable_difference_at_the_edges() -> None:
    assert detectable([], level=0.05, power=0.8) is None
    assert detectable([(0.0, 2.0)], level=0.05, power=0.8) == 0
    strict, usual = (detectable([(1.0, 2.0)], level=level, power=0.8) for level in (0.05 / 11, 0.05))
    assert strict is not None
    assert usual is not None
    assert detectable([(1.0, 2.0), (1.0, 200.0)], level=0.05, power=0.8) == usual  # the stricter test decides
    assert strict > 3 * usual > 15  # two degrees of freedom are dear
    assert power(0.0, 1.0, 5.0, level=0.05) == pytest.approx(0.05)


def test_seeds_that_decide_are_the_fewest_at_which_the_interval_excludes_zero() -> None:
    for difference, per_seed, fixed in ((0.02, 0.001, 0.0), (-0.02, 0.001, 0.00003), (0.1, 1e-6, 0.0)):
        seeds = seeds_to_decide(difference, per_seed, fixed, level=0.05)
        assert seeds is not None

        def excluded(count: int) -> bool:
            reach = stats.t.isf(0.025, count - 1) * math.sqrt(fixed + per_seed / count)  # noqa: B023
            return bool(abs(difference) > reach)  # noqa: B023

        assert excluded(seeds)
        assert seeds == 2 or not excluded(seeds - 1)
    assert seeds_to_decide(0.02, 0.001, 0.0002, level=0.05) is None  # 1.96 standard errors of the items alone
