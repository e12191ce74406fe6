"""The slow references of the distillation losses themselves: gradients by hand, limits, values worked out on paper."""

from functools import partial

import numpy as np
import pytest

from tests import reference_divergences as reference
from tests.reference_divergences import BY_HAND, DIVERGENCES, TWO_IDS, Array, finite_difference

CASES = reference.cases()
RANDOM_T, RANDOM_S = CASES["random"]
DRAWS, K = 50, 4


def softmax(z: Array) -> Array:
    return np.exp([reference.log_softmax(row) for row in z])


def top(t: Array, k: int) -> tuple[Array, Array, Array]:
    """ids, probs [tokens, k] and tail [tokens] of full teacher logits."""
    p = softmax(t)
    order = np.argsort(-p, axis=1)
    probs = np.take_along_axis(p, order, axis=1)
    return order[:, :k], probs[:, :k], probs[:, k:].sum(axis=1)


def with_holes(ids: Array, *carried: Array) -> tuple[Array, ...]:
    """Rows of fewer ids: −1 in the second one's last place, in the third one's first and in all of the fourth's."""
    ids, carried = ids.copy(), tuple(c.copy() for c in carried)
    for row, column in ((1, -1), (2, 0), (3, slice(None))):
        ids[row, column] = -1
        for c in carried:
            c[row, column] = 0.0
    return ids, *carried


def drawn(t: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """ids and shares [tokens, vocab] of DRAWS draws with replacement from each row."""
    counts = np.stack([rng.multinomial(DRAWS, row) for row in softmax(t)])
    return np.where(counts > 0, np.arange(t.shape[1]), -1), counts / DRAWS


@pytest.mark.parametrize("tau", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_gradient_is_the_slope_of_the_value(name, case, tau):
    (t, s), divergence = CASES[case], DIVERGENCES[name]
    value = partial(divergence, t, tau=tau)
    if name.startswith("adaptive"):  # its weights are constants in the gradient
        forward, reverse = reference.adaptive_weights(t, s, tau, **divergence.keywords).T

        def value(x):
            return forward * reference.forward_kl(t, x, tau) + reverse * reference.reverse_kl(t, x, tau)

    np.testing.assert_allclose(value(s), divergence(t, s, tau), rtol=1e-12)
    slope = divergence(t, s, tau, gradient=True)
    np.testing.assert_allclose(slope, finite_difference(value, s), rtol=1e-6, atol=5e-7)
    np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-11)  # all logits shifted: nothing changes
    assert np.abs(slope).max() > 0.01


@pytest.mark.parametrize("name", BY_HAND)
def test_values_worked_out_on_paper(name):
    np.testing.assert_allclose(DIVERGENCES[name](*TWO_IDS), [BY_HAND[name]], rtol=1e-12)
    t, s = (2 * logits for logits in TWO_IDS)  # at temperature 2 the same distributions, four times the value
    np.testing.assert_allclose(DIVERGENCES[name](t, s, 2.0), [4 * BY_HAND[name]], rtol=1e-12)


@pytest.mark.parametrize("tau", [1.0, 2.0])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_nothing_to_learn_from_oneself(name, tau):
    for t, s in CASES.values():
        same = np.where(t == -np.inf, s, t)
        for gradient in (False, True):
            np.testing.assert_allclose(DIVERGENCES[name](t, same, tau, gradient), 0, atol=1e-13)
        assert (DIVERGENCES[name](t, s, tau) > 0).all()


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_padding_counts_for_neither_side(name, gradient):
    t, s = CASES["padded"]
    result = DIVERGENCES[name](t, np.where(t == -np.inf, np.nan, s), 2.0, gradient)
    for n, kept in enumerate(t != -np.inf):
        alone = DIVERGENCES[name](t[n : n + 1, kept], s[n : n + 1, kept], 2.0, gradient)[0]
        np.testing.assert_array_equal(result[n][kept] if gradient else result[n], alone)
        assert not gradient or not result[n][~kept].any()


@pytest.mark.parametrize("gradient", [False, True])
def test_limits_of_jsd(gradient):
    forward, reverse = (f(RANDOM_T, RANDOM_S, 1.0, gradient) for f in (reference.forward_kl, reference.reverse_kl))
    for weight, bound in ((1e-2, 0.5), (1e-4, 2e-2), (1e-6, 2e-4)):  # the distance shrinks with the weight
        at_0, at_1 = (reference.jsd(RANDOM_T, RANDOM_S, 1.0, gradient, beta=b) / weight for b in (weight, 1 - weight))
        np.testing.assert_allclose(at_0, forward, rtol=0, atol=bound * np.abs(forward).max())
        np.testing.assert_allclose(at_1, reverse, rtol=0, atol=bound * np.abs(reverse).max())


def test_head_and_weights_of_adaptive_kl():
    p = np.array([0.1, 0.6, 0.3])
    assert reference.head_of(p, 0.5).tolist() == [False, True, False]
    assert reference.head_of(p, 0.6).tolist() == [False, True, False]  # mass before the next one is mu, not below
    assert reference.head_of(p, 0.7).tolist() == [False, True, True]
    assert reference.head_of(np.full(4, 0.25), 0.5).tolist() == [True, True, False, False]  # equal ones: by id
    t, s = np.log([p]), np.log([[0.2, 0.7, 0.1]])  # distances 0.1, 0.1, 0.2
    np.testing.assert_allclose(reference.adaptive_weights(t, s, mu=0.5), [[0.25, 0.75]])
    np.testing.assert_allclose(reference.adaptive_weights(t, s, mu=0.7), [[0.75, 0.25]])
    assert not reference.adaptive_weights(t, t, mu=0.5).any()


@pytest.mark.parametrize("case", ["random", "peaked"])
def test_gradients_of_sparse_losses(case):
    t, s = CASES[case]
    ids, probs, tail = top(t, K)
    holed, some = with_holes(ids, probs)
    sampled, shares = drawn(t, np.random.default_rng(1))
    losses = [
        partial(reference.topk_tail, ids, probs, tail),
        partial(reference.topk_tail, holed, some, 1 - some.sum(axis=1)),
        partial(reference.topk_tail, ids, 0.9 * probs, tail),  # stored roundly: probs and tail do not sum to 1
        partial(reference.topk_renormalised, holed, some),
        partial(reference.random_sampling, sampled, shares),
        partial(reference.random_sampling, sampled, 0.9 * shares),
    ]
    for loss in losses:
        np.testing.assert_allclose(loss(s, gradient=True), finite_difference(loss, s), rtol=1e-6, atol=5e-7)
    for result in (losses[1](s), losses[3](s), losses[1](s, gradient=True), losses[3](s, gradient=True)):
        np.testing.assert_allclose(result[3], 0, atol=1e-13)  # a row without ids says nothing


def test_tail_bucket_is_below_forward_kl_and_equal_at_k_is_v():
    full, vocab = reference.forward_kl(RANDOM_T, RANDOM_S), RANDOM_T.shape[1]
    below = [reference.topk_tail(*top(RANDOM_T, k), RANDOM_S) for k in range(1, vocab + 1)]
    assert all((fewer <= more + 1e-13).all() for fewer, more in zip(below, below[1:], strict=False))
    assert (below[K - 1] < full - 1e-3).all()
    assert (top(RANDOM_T, vocab)[2] == 0).all()
    np.testing.assert_allclose(below[-1], full, rtol=1e-12)
    np.testing.assert_allclose(below[-2], full, rtol=1e-12)  # a bucket of one id is that id
    slope = reference.topk_tail(*top(RANDOM_T, vocab), RANDOM_S, gradient=True)
    np.testing.assert_allclose(slope, reference.forward_kl(RANDOM_T, RANDOM_S, gradient=True), atol=1e-14)


def test_renormalised_top_k_is_forward_kl_to_a_teacher_that_has_no_other_ids():
    ids, probs, _ = top(RANDOM_T, K)
    only = np.full(RANDOM_T.shape, -np.inf)
    np.put_along_axis(only, ids, np.take_along_axis(RANDOM_T, ids, axis=1), axis=1)
    for gradient in (False, True):
        ours = reference.topk_renormalised(ids, probs, RANDOM_S, gradient)
        np.testing.assert_allclose(ours, reference.forward_kl(only, RANDOM_S, 1.0, gradient), atol=1e-13)


def test_only_the_tail_bucket_sees_mass_outside_k():
    ids, probs, tail = top(RANDOM_T, K)
    outside = np.ones(RANDOM_T.shape, dtype=bool)
    np.put_along_axis(outside, ids, False, axis=1)
    s = RANDOM_T + 2.0 * outside  # in K the teacher's ratios, but too much mass outside
    bucket = reference.topk_tail(ids, probs, tail, s, gradient=True)
    renormalised = reference.topk_renormalised(ids, probs, s, gradient=True)
    assert (bucket[outside] > 0).all()
    np.testing.assert_allclose(renormalised, 0, atol=1e-13)
    assert (reference.topk_renormalised(ids, probs, RANDOM_S, gradient=True)[outside] == 0).all()
    # Its ratios outside K are the teacher's, too: then the bucket's loss and gradient are those of the full KL.
    np.testing.assert_allclose(bucket, reference.forward_kl(RANDOM_T, s, gradient=True), atol=1e-13)


def test_random_sampling_is_unbiased_and_renormalised_top_k_is_not():
    t, s = RANDOM_T[:1], RANDOM_S[:1]
    many_t, many_s = np.repeat(t, 4000, axis=0), np.repeat(s, 4000, axis=0)
    ids, shares = drawn(many_t, np.random.default_rng(2))
    slopes = reference.random_sampling(ids, shares, many_s, gradient=True)
    error = slopes.std(axis=0, ddof=1) / np.sqrt(len(slopes))
    expected = reference.forward_kl(t, s, gradient=True)[0]
    assert (error > 0).all()
    assert (np.abs(slopes.mean(axis=0) - expected) < 4 * error).all()

    top_ids, probs, _ = top(t, K)
    bias = reference.topk_renormalised(top_ids, probs, s, gradient=True)[0] - expected
    p, q = softmax(t)[0], softmax(s)[0]
    inside = np.isin(np.arange(len(p)), top_ids)
    stated = np.where(inside, q / q[inside].sum() - p / p[inside].sum(), 0) - (q - p)
    np.testing.assert_allclose(bias, stated, atol=1e-14)
    assert (np.abs(bias) > 4 * error).sum() > len(p) / 2
    assert np.abs(bias / error).max() > 100

    # The value's mean is above by the drawn target's mean KL to the teacher.
    values = reference.random_sampling(ids, shares, many_s)
    to_teacher = reference.random_sampling(ids, shares, many_t)
    excess = values - to_teacher - reference.forward_kl(t, s)
    assert abs(excess.mean()) < 4 * excess.std(ddof=1) / np.sqrt(len(excess))
    assert to_teacher.mean() > 0.05


def test_an_id_twice_and_a_tail_without_ids_are_refused():
    with pytest.raises(ValueError, match="twice"):
        reference.random_sampling(np.array([[1, 1]]), np.array([[0.5, 0.5]]), RANDOM_S[:1])
    with pytest.raises(ValueError, match="infinite"):
        reference.topk_tail(np.array([[1, 0]]), np.array([[0.5, 0.4]]), np.array([0.1]), RANDOM_S[:1, :2])
