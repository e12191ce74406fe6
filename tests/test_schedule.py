"""Schedules at the points that the DANTE-Mosaic-3.5B card names."""

import pytest

from dante.errors import DanteError
from dante.losses.schedule import Constant, HoldThenRamp, Linear

CARD_STEPS = 2000


@pytest.mark.parametrize(("step", "expected"), [(0, 0.70), (200, 0.70), (1100, 0.85), (2000, 1.0), (2500, 1.0)])
def test_ce_weight_of_the_card(step, expected):
    assert HoldThenRamp(0.70, 1.0, hold=0.1)(step / CARD_STEPS) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("step", range(0, 2001, 50))
def test_ce_weight_is_the_cards_formula(step):
    formula = 0.70 + 0.30 * max(0, step - 200) / 1800
    assert HoldThenRamp(0.70, 1.0, hold=0.1)(step / CARD_STEPS) == pytest.approx(formula, abs=1e-12)


@pytest.mark.parametrize(("step", "expected"), [(0, 1.0), (1000, 0.55), (2000, 0.1), (3000, 0.1)])
def test_tea_weight_of_the_card(step, expected):
    assert Linear(1.0, 0.1)(step / CARD_STEPS) == pytest.approx(expected, abs=1e-12)


def test_constant_and_clamping_below_zero():
    assert Constant(0.3)(0.0) == Constant(0.3)(1.0) == 0.3
    assert Linear(1.0, 0.1)(-1.0) == 1.0
    assert HoldThenRamp(0.7, 1.0, 0.0)(0.5) == pytest.approx(0.85)


@pytest.mark.parametrize("hold", [-0.1, 1.0, 1.5])
def test_hold_outside_the_run_is_refused(hold):
    with pytest.raises(DanteError, match="hold"):
        HoldThenRamp(0.7, 1.0, hold)
