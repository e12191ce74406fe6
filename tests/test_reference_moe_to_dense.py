"""The reference of MoE → dense against itself, against closed forms and against brute force."""

from itertools import combinations

import numpy as np
import pytest

from tests.reference_moe_to_dense import (
    concatenate,
    do_acp_kernel,
    do_acp_lambda,
    do_acp_select,
    expert_outputs,
    glu,
    log_determinant,
    merge,
    merge_groups,
    moe_block,
    nmse,
    radlads,
    ridge_down,
    scales,
    select,
    sigmoid_router,
    softmax_router,
    statistics,
    topk_softmax_router,
)

T, E, D, I = 23, 6, 5, 4  # noqa: E741
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def an_expert(rng, width=I, biases=False, size=1.0):
    expert = {
        "gate": size * rng.normal(size=(width, D)),
        "up": size * rng.normal(size=(width, D)),
        "down": rng.normal(size=(D, width)),
    }
    if biases:
        expert |= {f"{name}_bias": rng.normal(size=n) for name, n in (("gate", width), ("up", width), ("down", D))}
    return expert


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def x(rng):
    return rng.normal(size=(T, D))


@pytest.fixture
def experts(rng):
    return [an_expert(rng) for _ in range(E)]


@pytest.fixture
def stats(rng, x, experts):
    """Uneven routing: the last expert's logit is so low that no token selects it."""
    logits = rng.normal(size=(T, E)) + np.linspace(1, -1, E)
    logits[:, -1] = -30
    return statistics(*softmax_router(logits, 2), expert_outputs(x, experts))


# The GLU.


def test_glu_of_one_neuron_by_hand():
    x = np.array([[2.0]])
    one = {"gate": np.array([[1.0]]), "up": np.array([[3.0]]), "down": np.array([[0.5]])}
    assert glu(x, **one)[0, 0] == pytest.approx(0.5 * 2 / (1 + np.exp(-2)) * 6)
    assert glu(x, **one, gate_bias=np.array([-1.0]), up_bias=np.array([1.0]), down_bias=np.array([10.0]))[
        0, 0
    ] == pytest.approx(0.5 * 1 / (1 + np.exp(-1)) * 7 + 10)


@pytest.mark.parametrize(
    ("g", "u", "hidden"),
    [
        (9.0, 1.0, 2 * 7 / (1 + np.exp(-1.702 * 7))),  # the gate is clamped above ...
        (-9.0, 1.0, 2 * -9 / (1 + np.exp(1.702 * 9))),  # ... and not below
        (1.0, 20.0, 8 / (1 + np.exp(-1.702))),  # up on both sides
        (1.0, -20.0, -6 / (1 + np.exp(-1.702))),
        (0.0, -1.0, 0.0),
    ],
)
def test_gpt_oss_clamps_by_hand(g, u, hidden):
    y = glu(np.ones((1, 1)), np.full((1, 1), g), np.full((1, 1), u), np.ones((1, 1)), kind="gpt_oss")
    assert y[0, 0] == pytest.approx(hidden, rel=1e-12)


def test_a_large_input_gives_no_warning_and_no_nan():
    with np.errstate(all="raise", under="ignore"):
        y = glu(np.array([[1e4], [-1e4]]), np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)))
    np.testing.assert_allclose(y, [[1e8], [0.0]])


def test_unknown_names_are_errors_that_list_the_choices(stats):
    one = np.ones((1, 1))
    for call in (
        lambda: glu(one, one, one, one, kind="relu"),
        lambda: scales(stats, [0], "loud"),
        lambda: select(stats, "best", 1),
    ):
        with pytest.raises(ValueError, match="choose"):
            call()


# Routers.


def test_the_bias_selects_and_does_not_weigh(rng):
    logits = rng.normal(size=(T, E))
    bias = np.array([0.0, 0, 0, 0, 5, 5])
    weights, indices = sigmoid_router(logits, bias, 2, 2.5)
    assert {tuple(sorted(row)) for row in indices} == {(4, 5)}
    s = 1 / (1 + np.exp(-logits))
    for t in range(T):
        np.testing.assert_allclose(weights[t], 2.5 * s[t, indices[t]] / s[t, 4:].sum(), **EXACT)
    raw, same = sigmoid_router(logits, bias, 2, 2.5, normalise=False)
    assert (same == indices).all()
    np.testing.assert_allclose(raw, 2.5 * np.take_along_axis(s, indices, axis=1), **EXACT)


def test_routers_take_the_largest_first_and_the_lowest_index_of_equal_ones(rng):
    logits = rng.normal(size=(T, E))
    expected = np.argsort(-logits, axis=1)[:, :3]
    for router in (
        lambda z, k: sigmoid_router(z, np.zeros(E), k, 1.0),
        softmax_router,
        topk_softmax_router,
    ):
        assert (router(logits, 3)[1] == expected).all()
        assert (router(np.zeros((T, E)), 3)[1] == [0, 1, 2]).all()
        np.testing.assert_allclose(router(logits, 3)[0].sum(axis=1), 1, **EXACT)


def test_softmax_of_the_top_k_is_the_renormalised_top_k_of_the_softmax(rng):
    logits = 5 * rng.normal(size=(T, E))
    np.testing.assert_allclose(topk_softmax_router(logits, 3)[0], softmax_router(logits, 3)[0], **EXACT)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax_router(logits, 3, normalise=False)[0], -np.sort(-p, axis=1)[:, :3], **EXACT)


def test_scaling_in_the_router_or_in_the_block_is_the_same_block(rng, x, experts):
    logits, outputs = rng.normal(size=(T, E)), expert_outputs(x, experts)
    weights, indices = sigmoid_router(logits, np.zeros(E), 3, 1.0)
    folded, _ = sigmoid_router(logits, np.zeros(E), 3, 2.5)
    np.testing.assert_allclose(moe_block(outputs, weights, indices, 2.5), moe_block(outputs, folded, indices), **EXACT)


# Exactness of the dense GLU.


@pytest.mark.parametrize("kind", ["uniform", "conditional", "normalised", "marginal"])
def test_equal_constant_routing_to_all_experts_is_the_block(rng, x, experts, kind):
    shared, outputs = an_expert(rng, width=7), expert_outputs(x, experts)
    weights, indices = sigmoid_router(np.zeros((T, E)), rng.normal(size=E), E, 1.0)
    block = moe_block(outputs, weights, indices, 2.5, glu(x, **shared))
    stats = statistics(weights, indices, outputs)
    dense = concatenate(experts, scales(stats, list(range(E)), kind), 2.5, shared)
    assert dense["gate"].shape == dense["up"].shape == (7 + E * I, D)
    assert set(dense) == {"gate", "up", "down"}
    np.testing.assert_array_equal(dense["down"][:, :7], shared["down"])
    np.testing.assert_allclose(glu(x, **dense), block, **EXACT)


@pytest.mark.parametrize("method", ["frequency", "alpha", "cp", "acp", "do_acp"])
@pytest.mark.parametrize("kind", ["conditional", "normalised", "marginal"])
def test_constant_routing_to_a_subset_is_the_subset(x, experts, method, kind):
    """Constant and unequal weights: every scale but uniform is exact, and every method finds the subset."""
    outputs = expert_outputs(x, experts)
    logits = np.tile([0.3, -9, 1.0, -9, -0.5, -9], (T, 1))
    weights, indices = topk_softmax_router(logits, 3)
    stats = statistics(weights, indices, outputs)
    chosen = select(stats, method, 3)
    assert sorted(chosen) == [0, 2, 4]
    dense = concatenate([experts[e] for e in chosen], scales(stats, chosen, kind), 1.0)
    np.testing.assert_allclose(glu(x, **dense), moe_block(outputs, weights, indices), **EXACT)


def test_equal_constant_routing_to_a_subset_is_its_uniform_dense(x, experts):
    outputs = expert_outputs(x, experts)
    weights, indices = sigmoid_router(np.zeros((T, E)), np.array([0.0, 1, 0, 1, 0, 0]), 2, 1.0)
    chosen = select(statistics(weights, indices, outputs), "frequency", 2)
    assert chosen == [1, 3]
    dense = concatenate([experts[e] for e in chosen], scales({"alpha": np.zeros(E)}, chosen, "uniform"), 2.5)
    np.testing.assert_allclose(glu(x, **dense), moe_block(outputs, weights, indices, 2.5), **EXACT)


def test_gpt_oss_experts_with_biases_concatenate_exactly(rng, x):
    experts = [an_expert(rng, biases=True, size=3.0) for _ in range(E)]
    activation = {"kind": "gpt_oss", "limit": 2.0}
    gates = np.concatenate([x @ e["gate"].T + e["gate_bias"] for e in experts])
    ups = np.concatenate([x @ e["up"].T + e["up_bias"] for e in experts])
    for above in (gates > 2, ups > 2, ups < -2, abs(gates) < 2, abs(ups) < 2):
        assert above.mean() > 0.1  # the clamps act on some and spare others
    outputs = expert_outputs(x, experts, **activation)
    weights, indices = topk_softmax_router(np.tile(rng.normal(size=E), (T, 1)), 4)
    stats = statistics(weights, indices, outputs)
    chosen = select(stats, "cp", 4)
    dense = concatenate([experts[e] for e in chosen], scales(stats, chosen, "conditional"), 1.5)
    np.testing.assert_allclose(glu(x, **dense, **activation), moe_block(outputs, weights, indices, 1.5), **EXACT)


def test_the_shared_experts_down_bias_is_not_scaled_and_missing_biases_are_zero(rng, x):
    shared, plain = an_expert(rng, biases=True), an_expert(rng)
    dense = concatenate([plain], np.array([0.5]), 3.0, shared)
    np.testing.assert_array_equal(dense["down_bias"], shared["down_bias"])
    np.testing.assert_array_equal(dense["gate_bias"][I:], 0)
    np.testing.assert_allclose(glu(x, **dense), glu(x, **shared) + 1.5 * glu(x, **plain), **EXACT)


# Statistics.


def test_statistics_of_two_tokens_by_hand():
    outputs = np.array([[[3.0, 4.0], [0.0, 2.0]], [[1.0, 0.0], [1.0, 1.0]], [[5.0, 5.0], [5.0, 5.0]]])
    stats = statistics(np.array([[0.7, 0.3], [0.9, 0.1]]), np.array([[0, 1], [1, 0]]), outputs)
    np.testing.assert_allclose(stats["alpha"], [0.4, 0.6, 0])
    np.testing.assert_array_equal(stats["count"], [2, 2, 0])
    np.testing.assert_allclose(stats["cp"], [0.4, 0.6, 0])
    np.testing.assert_allclose(stats["energy"], [(25 + 4) / 2, (1 + 2) / 2, 50])
    np.testing.assert_allclose(stats["acp"], [0.4 * np.sqrt(14.5), 0.6 * np.sqrt(1.5), 0])
    np.testing.assert_allclose(stats["gram"], [[14.5, 2.5, 22.5], [2.5, 1.5, 7.5], [22.5, 7.5, 50]])


def test_statistics_agree_with_each_other(stats):
    np.testing.assert_allclose(np.diag(stats["gram"]), stats["energy"], **EXACT)
    np.testing.assert_allclose(stats["gram"], stats["gram"].T, **EXACT)
    np.testing.assert_allclose(stats["alpha"], stats["cp"] * stats["count"] / T, **EXACT)
    assert stats["alpha"].sum() == pytest.approx(1)
    assert stats["count"].sum() == 2 * T


def test_a_dead_expert_gives_zeros_and_no_nan(x, experts, stats):
    dead = E - 1
    assert stats["count"][dead] == stats["alpha"][dead] == stats["cp"][dead] == stats["acp"][dead] == 0
    assert stats["energy"][dead] > 0
    kernel = do_acp_kernel(stats["acp"], stats["gram"])
    np.testing.assert_array_equal(kernel[dead], 0)
    np.testing.assert_array_equal(kernel[:, dead], 0)
    for method in ("frequency", "alpha", "cp", "acp", "do_acp"):
        assert dead not in select(stats, method, E - 1)
        assert sorted(select(stats, method, E)) == list(range(E))
    for kind in ("conditional", "normalised", "marginal"):
        np.testing.assert_array_equal(scales(stats, [dead], kind), [0])
        s = scales(stats, [0, dead], kind)
        assert s[0] > 0
        assert s[1] == 0
        assert np.isfinite(glu(x, **concatenate([experts[0], experts[dead]], s, 1.0))).all()
    for one in merge(experts, [dead], stats["acp"], 1):
        np.testing.assert_array_equal(one["gate"], experts[dead]["gate"])


def test_frequency_and_alpha_differ_where_an_often_selected_expert_gets_little_weight():
    weights = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    stats = statistics(weights, np.array([[0, 2], [0, 2], [1, 2]]), np.ones((3, 3, 1)))
    assert select(stats, "frequency", 3) == [2, 0, 1]
    assert select(stats, "alpha", 3) == [0, 1, 2]
    assert select(stats, "cp", 3) == [0, 1, 2]


# DO-ACP.


def a_kernel(rng, n=E):
    """Importances and a Gram matrix of full rank."""
    f = rng.normal(size=(n, 40)) + rng.normal(size=40)
    return do_acp_kernel(rng.uniform(0.1, 1, n), f @ f.T / 40)


def objective(kernel, s, lam):
    return log_determinant(kernel[np.ix_(s, s)] + lam * np.eye(len(s)))


@pytest.mark.parametrize("seed", range(5))
def test_greedy_against_brute_force(seed):
    kernel = a_kernel(np.random.default_rng(seed))
    for n in range(1, E + 1):
        lam, chosen = do_acp_lambda(kernel, n), do_acp_select(kernel, n)
        assert len(set(chosen)) == n
        assert chosen[0] == np.argmax(np.diag(kernel))
        for step in range(1, n + 1):  # each choice is the best single addition, by an eigenvalue determinant
            best = max(
                np.log(np.linalg.eigvalsh(kernel[np.ix_(s, s)] + lam * np.eye(step))).sum()
                for s in ([*chosen[: step - 1], e] for e in range(E) if e not in chosen[: step - 1])
            )
            assert objective(kernel, chosen[:step], lam) == pytest.approx(best)

        # logdet(I + K_S/λ) = logdet(K_S + λI) − |S| log λ has the same choices: monotone, with falling gains, and
        # greedy is within 1 − 1/e of the optimum.
        relative = [objective(kernel, chosen[:m], lam) - m * np.log(lam) for m in range(1, n + 1)]
        gains = np.diff([0.0, *relative])
        assert (gains > 0).all()
        assert (np.diff(gains) <= 1e-12).all()
        optimum = max(objective(kernel, list(s), lam) - n * np.log(lam) for s in combinations(range(E), n))
        assert optimum * (1 - 1 / np.e) <= relative[-1] <= optimum + 1e-12


def test_do_acp_prefers_a_different_expert_to_a_copy():
    """By hand: norms 2, 2, 1.5 with equal CP, so diag K = 8, 8, 3.375, λ = 19.375 / 6 and 74.2 > 62.1."""
    f = np.array([[2.0, 0], [2.0, 0], [0, 1.5]])
    acp = np.array([2.0, 2.0, 1.5])
    stats = {"acp": acp, "gram": f @ f.T}
    assert select(stats, "do_acp", 2) == do_acp_select(do_acp_kernel(acp, f @ f.T), 2) == [0, 2]
    assert select(stats, "acp", 2) == [0, 1]


def test_do_acp_takes_the_copy_where_lambda_outweighs_the_rest():
    """Norms 2, 2, 1 with equal importance: λ = 1.5, 5.5² − 4² = 14.25 > 5.5 · 2.5 = 13.75. λ is not a mere jitter."""
    f = np.array([[2.0, 0], [2.0, 0], [0, 1.0]])
    assert do_acp_select(do_acp_kernel(np.ones(3), f @ f.T), 2) == [0, 1]


def test_do_acp_does_not_depend_on_the_scale_of_weights_or_outputs(rng):
    kernel = a_kernel(rng)
    for factor in (1e-6, 2.5, 1e6):
        assert do_acp_select(factor * kernel, 4) == do_acp_select(kernel, 4)


def test_do_acp_kernel_and_lambda_by_hand():
    kernel = do_acp_kernel(np.array([4.0, 9.0]), np.array([[1.0, 0.5], [0.5, 2.0]]))
    np.testing.assert_allclose(kernel, [[4, 3], [3, 18]])
    assert do_acp_lambda(kernel, 2) == pytest.approx(11 / 2)


def test_do_acp_of_a_kernel_of_zeros_takes_the_first():
    assert do_acp_select(np.zeros((4, 4)), 3) == [0, 1, 2]


# Scales.


def test_scales_by_hand(stats):
    chosen = [2, 0]
    np.testing.assert_array_equal(scales(stats, chosen, "uniform"), [0.5, 0.5])
    np.testing.assert_array_equal(scales(stats, chosen, "conditional"), stats["cp"][chosen])
    np.testing.assert_array_equal(scales(stats, chosen, "marginal"), stats["alpha"][chosen])
    np.testing.assert_allclose(
        scales(stats, chosen, "normalised"), stats["alpha"][chosen] / stats["alpha"][chosen].sum()
    )


def test_marginal_scales_sum_to_k_of_e_with_even_routing(x, experts):
    weights, indices = np.full((E, 2), 0.5), np.array([[t, (t + 1) % E] for t in range(E)])
    stats = statistics(weights, indices, expert_outputs(x[:E], experts))
    assert scales(stats, [0, 1, 2], "marginal").sum() == pytest.approx(3 / E)


# Merging.


def test_round_robin_by_score():
    assert merge_groups([0, 1, 2, 3, 4], np.array([1.0, 5, 3, 4, 2, 9]), 2) == [[1, 2, 0], [3, 4]]
    assert merge_groups([3, 1, 2], np.zeros(4), 2) == [[1, 3], [2]]
    with pytest.raises(ValueError, match="choose 1 to 2"):
        merge_groups([0, 1], np.ones(2), 3)


def test_merge_weighs_by_score(rng):
    experts, scores = [an_expert(rng, biases=True) for _ in range(4)], np.array([3.0, 2.0, 1.0, 0.0])
    first, second = merge(experts, [0, 1, 2, 3], scores, 2)
    for name in experts[0]:
        np.testing.assert_allclose(first[name], 0.75 * experts[0][name] + 0.25 * experts[2][name], **EXACT)
        np.testing.assert_allclose(second[name], experts[1][name], **EXACT)
    for name, value in merge(experts, [0, 3], np.zeros(4), 1)[0].items():
        np.testing.assert_allclose(value, (experts[0][name] + experts[3][name]) / 2, **EXACT)


def test_merging_into_as_many_groups_only_sorts(experts, stats):
    chosen = select(stats, "alpha", 3)
    for one, e in zip(merge(experts, chosen[::-1], stats["alpha"], 3), chosen, strict=True):
        for name in one:
            np.testing.assert_allclose(one[name], experts[e][name], **EXACT)


def test_merging_experts_that_differ_only_in_down_averages_their_outputs(rng, x):
    """A GLU is linear in down and down_bias."""
    base = an_expert(rng, biases=True)
    experts = [base | {"down": rng.normal(size=(D, I)), "down_bias": rng.normal(size=D)} for _ in range(3)]
    scores = np.array([1.0, 2.0, 5.0])
    outputs = expert_outputs(x, experts)
    (one,) = merge(experts, [0, 1, 2], scores, 1)
    np.testing.assert_allclose(glu(x, **one), np.tensordot(scores / 8, outputs, axes=1), **EXACT)


# Ridge.


def test_ridge_is_least_squares_for_a_tiny_lambda(rng):
    h, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 3))
    w = ridge_down(h, y, 1e-12)
    assert w.shape == (3, 6)
    np.testing.assert_allclose(w, np.linalg.lstsq(h, y, rcond=None)[0].T, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(ridge_down(h, h @ w.T, 1e-12), w, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("n_tokens", [4, 40])
def test_ridge_is_least_squares_with_sqrt_lambda_as_extra_tokens(rng, n_tokens):
    h, y = rng.normal(size=(n_tokens, 6)), rng.normal(size=(n_tokens, 3))
    rows, targets = np.vstack([h, np.sqrt(0.3) * np.eye(6)]), np.vstack([y, np.zeros((6, 3))])
    np.testing.assert_allclose(ridge_down(h, y, 0.3), np.linalg.lstsq(rows, targets, rcond=None)[0].T, rtol=1e-9)


# Losses.


def test_losses_by_hand():
    target, prediction = np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([[3.0, 0.0], [2.0, 1.0]])
    mask = np.array([1.0, 0.5])
    assert nmse(prediction, target, mask, 0.0) == pytest.approx((16 + 0.5 * 4) / (25 + 0.5))
    assert nmse(prediction, target, mask, 2.5) == pytest.approx(18 / 28)
    assert radlads(prediction, target, mask) == pytest.approx((4 + 0.5 * 2) / np.sqrt(2) / 1.5)


def test_losses_have_their_zeros_and_do_not_read_masked_tokens(rng):
    target, prediction = rng.normal(size=(T, D)), rng.normal(size=(T, D))
    assert nmse(target, target, np.ones(T), 1e-8) == radlads(target, target, np.ones(T)) == 0
    assert nmse(np.zeros((T, D)), target, np.ones(T), 0.0) == pytest.approx(1)
    mask = (np.arange(T) % 3 > 0).astype(float)
    kept = mask > 0
    expected = (
        nmse(prediction[kept], target[kept], mask[kept], 1e-8),
        radlads(prediction[kept], target[kept], mask[kept]),
    )
    prediction[~kept] = target[~kept] = np.nan
    assert (nmse(prediction, target, mask, 1e-8), radlads(prediction, target, mask)) == expected
    assert nmse(prediction, target, np.zeros(T), 1e-8) == radlads(prediction, target, np.zeros(T)) == 0
