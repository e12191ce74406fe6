"""The entropy bounds bracket the true entropy, are exact where they must be, and are in nats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dante.teachers.uncertainty import confidence_weight, entropy_bounds, mean_entropy_bounds


def top(probabilities: np.ndarray, k: int) -> np.ndarray:
    return np.log(np.sort(probabilities, axis=-1)[:, ::-1][:, :k])


def entropy(probabilities: np.ndarray) -> np.ndarray:
    return -(probabilities * np.log(probabilities)).sum(-1)


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 200), st.integers(1, 40), st.floats(0.01, 5.0), st.integers(0, 2**32 - 1))
def test_bounds_bracket_the_entropy(vocabulary: int, k: int, concentration: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    p = draw.dirichlet(np.full(vocabulary, concentration), size=4) + 1e-12
    p /= p.sum(-1, keepdims=True)
    lower, upper = entropy_bounds(top(p, min(k, vocabulary)), vocabulary)
    assert (lower <= entropy(p) + 1e-9).all()
    assert (upper >= entropy(p) - 1e-9).all()


def test_all_probabilities_give_the_entropy() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(30), size=5)
    lower, upper = entropy_bounds(top(p, 30), 30)
    np.testing.assert_allclose(lower, entropy(p), rtol=1e-9)
    np.testing.assert_allclose(upper, entropy(p), rtol=1e-9)


def test_uniform_distribution_is_exact_from_both_sides() -> None:
    # The tail of a uniform distribution is as spread out and as concentrated as the order allows.
    lower, upper = entropy_bounds(np.log(np.full((1, 8), 1 / 64)), 64)
    assert lower[0] == pytest.approx(np.log(64))
    assert upper[0] == pytest.approx(np.log(64))


def test_formula_on_numbers_worked_by_hand() -> None:
    # kept 0.5 and 0.3, tail 0.2 over 3 tokens: lower uses log min(r, p_K) = log 0.2, upper spreads 0.2 evenly
    lower, upper = mean_entropy_bounds(np.log(np.array([[0.5, 0.3]])), 5)
    kept = -(0.5 * np.log(0.5) + 0.3 * np.log(0.3))
    assert lower == pytest.approx(kept - 0.2 * np.log(0.2))
    assert upper == pytest.approx(kept - 0.2 * np.log(0.2) + 0.2 * np.log(3))


def test_a_large_tail_is_limited_by_the_smallest_kept_probability() -> None:
    lower, _ = entropy_bounds(np.log(np.array([[0.2, 0.1]])), 100)
    kept = -(0.2 * np.log(0.2) + 0.1 * np.log(0.1))
    assert lower[0] == pytest.approx(kept - 0.7 * np.log(0.1))


def test_a_certain_token_has_no_entropy() -> None:
    lower, upper = entropy_bounds(np.array([[0.0, -np.inf]]), 50)
    assert lower[0] == upper[0] == 0.0


def test_weight_at_the_reference_values() -> None:
    expected = {0: 0.9333, 0.2: 0.913, 0.5: 0.872, 1: 0.775, 1.5: 0.65, 2: 0.525, 3: 0.367, 5: 0.304}
    weights = confidence_weight(np.array(list(expected), dtype=np.float64))
    np.testing.assert_allclose(weights, list(expected.values()), atol=1e-3)
