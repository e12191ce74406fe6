"""The plan: rows hold, steps are exact, ranks share evenly, and world size never changes what a step shows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dante.data.curriculum import Shuffled, SortedOnceRepeat
from dante.data.packing import Plan, balance, make_plan
from dante.errors import DanteError


def plan_of(unit: str, size: int, steps: int = 7, records: int = 90, max_tokens: int = 64, curriculum=None) -> Plan:
    rng = np.random.default_rng(records)
    lengths = rng.integers(3, max_tokens + 1, size=records)
    entropy = rng.random(records)
    chosen = curriculum or Shuffled()
    return make_plan(
        lengths,
        lengths // 2,
        lambda draws: chosen.order(entropy, draws, 5),
        steps=steps,
        batch={"unit": unit, "size": size},
        max_tokens=max_tokens,
    )


UNITS = [("records", 13), ("packs", 4), ("tokens", 400), ("packs", 1)]


@pytest.mark.parametrize(("unit", "size"), UNITS)
def test_packs_hold_and_totals_are_exact(unit, size):
    plan = plan_of(unit, size)
    assert plan.steps == 7
    for step in range(plan.steps):
        packs = plan.step_packs(step)
        rows = [row for pack in packs for row in pack]
        assert all(0 < plan.lengths[pack].sum() <= plan.max_tokens for pack in packs)
        assert plan.tokens[step] == plan.lengths[rows].sum()
        assert plan.supervised_tokens[step] == (plan.lengths[rows] // 2).sum()
        assert plan.records[step] == len(rows)
        assert plan.fill[step] == pytest.approx(plan.lengths[rows].sum() / (len(packs) * plan.max_tokens))
        if unit == "records":
            assert len(rows) == size
        if unit == "packs":
            assert len(packs) <= size
        if unit == "tokens":
            assert plan.tokens[step] <= size


@pytest.mark.parametrize("curriculum", [Shuffled(), SortedOnceRepeat()])
@pytest.mark.parametrize(("unit", "size"), UNITS)
@pytest.mark.parametrize("steps", [1, 8, 41])
def test_the_curriculum_spans_the_draws_that_are_used(unit, size, steps, curriculum):
    """A sorted curriculum that was told of too many draws would never reach the hard records."""
    rng = np.random.default_rng(0)
    lengths, entropy = rng.integers(3, 65, size=90), rng.random(90)
    told = {}

    def order(draws: int) -> np.ndarray:
        told[draws] = curriculum.order(entropy, draws, 5)
        return told[draws]

    batch = {"unit": unit, "size": size}
    plan = make_plan(lengths, lengths, order, steps=steps, batch=batch, max_tokens=64)
    used = len(plan.rows)
    assert plan.steps == steps
    assert (plan.records > 0).all()
    fitting = [draws for draws, rows in told.items() if np.array_equal(rows[:used], plan.rows)]
    # With a pack per step what fits is so jumpy that no number of draws may fill the steps exactly.
    assert min(draws - used for draws in fitting) <= max(1, used // steps, 0.1 * used if size == 1 else 0)
    if unit == "records":
        assert fitting == [steps * size]
    if unit != "records" and steps > 1:
        assert plan.tokens[-1] > 0.25 * plan.tokens[:-1].max(), "the last step is a step like the others"


def test_packing_stays_inside_a_steps_window_and_first_fit_reuses_room():
    lengths = np.array([40, 40, 20, 60, 10])
    plan = make_plan(
        lengths,
        lengths,
        lambda draws: np.arange(draws) % 5,
        steps=2,
        batch={"unit": "records", "size": 5},
        max_tokens=64,
    )
    assert plan.step_packs(0) == [[0, 2], [1, 4], [3]]
    assert plan.step_packs(1) == plan.step_packs(0)
    np.testing.assert_array_equal(plan.first_draw, [0, 5, 10])


def test_a_record_that_fills_a_pack_to_the_last_token_fits():
    lengths, batch = np.array([40, 24, 64]), {"unit": "records", "size": 3}
    plan = make_plan(lengths, lengths, np.arange, steps=1, batch=batch, max_tokens=64)
    assert plan.step_packs(0) == [[0, 1], [2]]
    assert plan.fill.tolist() == [1.0]


@pytest.mark.parametrize("accumulate", [None, 1, 2])
@pytest.mark.parametrize(("unit", "size"), [("records", 13), ("packs", 4)])
def test_world_size_never_changes_what_a_step_shows(unit, size, accumulate):
    plan = plan_of(unit, size)
    for step in range(plan.steps):
        shown = sorted(row for pack in plan.step_packs(step) for row in pack)
        for world_size in (1, 2, 3, 8):
            ranks = [plan.micro_batches(step, rank, world_size, accumulate) for rank in range(world_size)]
            assert sorted(row for batches in ranks for batch in batches for row in batch) == shown
            assert len({len(batches) for batches in ranks}) == 1, "collectives need equally many micro-batches"
            assert len(ranks[0]) >= 1
            if accumulate is not None:
                assert len(ranks[0]) <= accumulate


@given(loads=st.lists(st.integers(1, 100), min_size=1, max_size=40), bins=st.integers(1, 9))
@settings(max_examples=80, deadline=None)
def test_balance_is_a_partition_with_bounded_counts(loads, bins):
    chosen = balance(loads, bins)
    assert sorted(item for items in chosen for item in items) == list(range(len(loads)))
    assert max(len(items) for items in chosen) <= -(-len(loads) // bins)


def test_balance_evens_out_loads():
    loads = np.random.default_rng(0).integers(1, 4097, size=64).tolist()
    totals = [sum(loads[item] for item in items) for items in balance(loads, 8)]
    assert max(totals) / np.mean(totals) < 1.05


def test_plans_are_equal_when_made_twice():
    first, second = plan_of("packs", 4), plan_of("packs", 4)
    for name in ("rows", "pack", "first_draw", "packs", "tokens", "supervised_tokens"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch": {"unit": "record", "size": 4}}, r"fit\.batch\.unit"),
        ({"steps": 0}, r"fit\.steps"),
        ({"max_tokens": 19}, r"record row 1 has 20 tokens.*fit\.max_tokens"),
        ({"batch": {"unit": "tokens", "size": 15}}, r"record row 1 has 20 tokens.*fit\.batch\.size"),
    ],
)
def test_bad_input_is_named(change, named):
    lengths = np.array([10, 20])
    arguments = {"steps": 1, "batch": {"unit": "records", "size": 2}, "max_tokens": 64, **change}
    with pytest.raises(DanteError, match=named):
        make_plan(lengths, lengths, np.arange, **arguments)


def test_uneven_lengths_still_fill_every_step():
    lengths = np.array([64] * 3 + [1] * 200)
    for unit, size in (("packs", 2), ("tokens", 64)):
        plan = make_plan(
            lengths,
            lengths,
            lambda draws: SortedOnceRepeat().order(lengths.astype(float), draws, 0),
            steps=9,
            batch={"unit": unit, "size": size},
            max_tokens=64,
        )
        assert plan.steps == 9


def test_planning_a_quarter_million_sequences_is_quick_and_small():
    lengths = np.random.default_rng(0).integers(200, 1500, size=44_000)
    plan = make_plan(
        lengths,
        lengths,
        lambda draws: Shuffled().order(lengths.astype(float), draws, 0),
        steps=2000,
        batch={"unit": "records", "size": 128},
        max_tokens=4096,
    )
    assert len(plan.rows) == 256_000
    assert plan.fill.mean() > 0.9
