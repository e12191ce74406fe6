"""Slow, obvious float64 references for the losses of logit distillation, written before any implementation.

numpy only, one token at a time. `t` and `s` are the teacher's and the student's logits [tokens, vocab]. Every function
returns its values [tokens] in nats or, with `gradient=True`, d value / d s [tokens, vocab], derived by hand.

Temperature: both sides' logits are divided by tau and the value is multiplied by tau². The gradient is the one of that
value with respect to the *undivided* student logits, so tau² · 1/tau · d(unscaled value)/d(s/tau).
Padding: an id whose teacher logit is −inf counts for neither side. Both distributions are restricted to the other ids
and renormalised there; the student's logit is not read, its gradient is 0.

With T, S the two distributions and h_j = ∂value/∂S_j, softmax gives ∂value/∂(s/tau)_i = S_i (h_i − Σ_j S_j h_j).
Constants in h drop out. This is `through_softmax`, which takes S·h, since h itself may overflow.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

Array = np.ndarray
#: (log T, log S) of one token on its kept ids → value, gradient with respect to the divided student logits.
Row = Callable[[Array, Array], tuple[float, Array]]


def log_softmax(z: Array) -> Array:
    """log softmax of one row of finite logits."""
    shifted = z - z.max()
    return shifted - np.log(np.exp(shifted).sum())


def log_mixture(weight: float, log_a: Array, log_b: Array) -> Array:
    """log(weight·a + (1 − weight)·b), finite where a or b underflows."""
    with np.errstate(divide="ignore"):  # log 0 = −inf is what a weight of 0 or 1 means
        return np.logaddexp(np.log(weight) + log_a, np.log1p(-weight) + log_b)


def kl(log_p: Array, log_q: Array) -> float:
    """KL(p‖q) of one token, both log-probabilities finite."""
    return float((np.exp(log_p) * (log_p - log_q)).sum())


def through_softmax(log_s: Array, s_times_h: Array) -> Array:
    """Gradient with respect to the logits from S_j · ∂value/∂S_j."""
    return s_times_h - np.exp(log_s) * s_times_h.sum()


def finite_difference(f: Callable[[Array], Array], s: Array, eps: float = 1e-5) -> Array:
    """Central differences of Σ_tokens f(s), f: [tokens, vocab] → [tokens]; one entry at a time, so it sees leaks."""
    slope = np.zeros(s.shape)
    for entry in np.ndindex(*s.shape):
        up, down = s.astype(np.float64), s.astype(np.float64)
        up[entry] += eps
        down[entry] -= eps
        slope[entry] = (f(up) - f(down)).sum() / (2 * eps)
    return slope


def over_tokens(row: Row, t: Array, s: Array, tau: float, gradient: bool) -> Array:
    """One row after the other: restrict, divide, renormalise; scale the value and the gradient."""
    values, slopes = np.zeros(len(t)), np.zeros(t.shape)
    for n in range(len(t)):
        kept = np.flatnonzero(t[n] != -np.inf)
        value, slope = row(log_softmax(t[n, kept] / tau), log_softmax(s[n, kept] / tau))
        values[n] = tau**2 * value
        slopes[n, kept] = tau**2 * slope / tau
    return slopes if gradient else values


# Divergences.


def forward_kl(t: Array, s: Array, tau: float = 1.0, gradient: bool = False) -> Array:
    """KL(T‖S) [C]."""
    return over_tokens(lambda lt, ls: (kl(lt, ls), np.exp(ls) - np.exp(lt)), t, s, tau, gradient)


def reverse_kl(t: Array, s: Array, tau: float = 1.0, gradient: bool = False) -> Array:
    """KL(S‖T) [C]; h = log(S/T)."""
    return over_tokens(lambda lt, ls: (kl(ls, lt), through_softmax(ls, np.exp(ls) * (ls - lt))), t, s, tau, gradient)


def jsd(t: Array, s: Array, tau: float = 1.0, gradient: bool = False, *, beta: float) -> Array:
    """GKD's β KL(T‖M) + (1−β) KL(S‖M), M = βT + (1−β)S; β = 0 is KL(T‖S), β = 1 is KL(S‖T), as in TRL [C].

    h = −β(1−β) T/M + (1−β) (log(S/M) + 1 − (1−β) S/M) = (1−β) log(S/M), as βT + (1−β)S = M.
    """
    if beta == 0:
        return forward_kl(t, s, tau, gradient)
    if beta == 1:
        return reverse_kl(t, s, tau, gradient)

    def row(lt: Array, ls: Array) -> tuple[float, Array]:
        lm = log_mixture(beta, lt, ls)
        slope = through_softmax(ls, (1 - beta) * np.exp(ls) * (ls - lm))
        return beta * kl(lt, lm) + (1 - beta) * kl(ls, lm), slope

    return over_tokens(row, t, s, tau, gradient)


def skew_kl(t: Array, s: Array, tau: float = 1.0, gradient: bool = False, *, lam: float) -> Array:
    """KL(T‖M), M = λT + (1−λ)S [C]; h = −(1−λ) T/M. λ = 0 is KL(T‖S)."""

    def row(lt: Array, ls: Array) -> tuple[float, Array]:
        lm = log_mixture(lam, lt, ls)
        return kl(lt, lm), through_softmax(ls, -(1 - lam) * np.exp(ls + lt - lm))

    return over_tokens(row, t, s, tau, gradient)


def skew_reverse_kl(t: Array, s: Array, tau: float = 1.0, gradient: bool = False, *, lam: float) -> Array:
    """KL(S‖M), M = λS + (1−λ)T [C]; h = log(S/M) + 1 − λ S/M. λ = 0 is KL(S‖T)."""

    def row(lt: Array, ls: Array) -> tuple[float, Array]:
        lm = log_mixture(lam, ls, lt)
        share = lam * np.exp(ls - lm) if lam > 0 else 0.0  # λS/M <= 1, but S/T may overflow
        return kl(ls, lm), through_softmax(ls, np.exp(ls) * (ls - lm - share))

    return over_tokens(row, t, s, tau, gradient)


def head_of(p: Array, mu: float) -> Array:
    """Which ids of one distribution are its head: the fewest most likely ones whose mass reaches mu.

    Sorted descending, equal ones by their id; a token is in the head while the mass *before* it is < mu.
    """
    head, mass = np.zeros(len(p), dtype=bool), 0.0
    for i in np.argsort(-p, kind="stable"):
        head[i] = mass < mu
        mass += p[i]
    return head


def adaptive_weights(t: Array, s: Array, tau: float = 1.0, *, mu: float) -> Array:
    """Weights of forward and reverse KL [tokens, 2]: Σ|T−S| over the head and over the rest, each over both's sum.

    Head and distances are those at temperature tau [I]. Both weights are 0 where T = S.
    """
    weights = np.zeros((len(t), 2))
    for n in range(len(t)):
        kept = t[n] != -np.inf
        p, q = np.exp(log_softmax(t[n, kept] / tau)), np.exp(log_softmax(s[n, kept] / tau))
        head, distance = head_of(p, mu), np.abs(p - q)
        if distance.sum() > 0:
            weights[n] = distance[head].sum() / distance.sum(), distance[~head].sum() / distance.sum()
    return weights


def adaptive_kl(t: Array, s: Array, tau: float = 1.0, gradient: bool = False, *, mu: float = 0.5) -> Array:
    """(g_h KL(T‖S) + g_t KL(S‖T)) / (g_h + g_t); the weights are constants in the gradient [I]."""
    weights = adaptive_weights(t, s, tau, mu=mu)
    forward, reverse = forward_kl(t, s, tau, gradient), reverse_kl(t, s, tau, gradient)
    return (weights.T[0] * forward.T + weights.T[1] * reverse.T).T


def total_variation(t: Array, s: Array, tau: float = 1.0, gradient: bool = False) -> Array:
    """½ Σ|T−S|; h = ½ sign(S−T), 0 where both are equal."""

    def row(lt: Array, ls: Array) -> tuple[float, Array]:
        p, q = np.exp(lt), np.exp(ls)
        return float(np.abs(p - q).sum()) / 2, through_softmax(ls, q * np.sign(q - p) / 2)

    return over_tokens(row, t, s, tau, gradient)


#: Each divergence at parameters worth testing, as (t, s, tau, gradient) → array.
DIVERGENCES: dict[str, Callable[..., Array]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    **{f"jsd({beta})": partial(jsd, beta=beta) for beta in (0, 0.1, 0.5, 0.9, 1)},
    **{f"skew_kl({lam})": partial(skew_kl, lam=lam) for lam in (0, 0.1, 0.5)},
    **{f"skew_reverse_kl({lam})": partial(skew_reverse_kl, lam=lam) for lam in (0, 0.1, 0.5)},
    **{f"adaptive_kl({mu})": partial(adaptive_kl, mu=mu) for mu in (0.5, 0.9)},
    "total_variation": total_variation,
}

# Sparse teachers, at temperature 1: ids [tokens, K], each at most once in a row, −1 where a row has fewer than K.


def on_kept(ids: Array, values: Array) -> tuple[Array, Array]:
    """One row's ids and what they carry, without padding."""
    kept = ids >= 0
    if len(set(ids[kept])) != kept.sum():
        raise ValueError("an id occurs twice in one row")
    return ids[kept], values[kept]


def x_log_x(x: Array) -> float:
    """Σ x log x, 0 log 0 = 0."""
    return float((x * np.log(np.where(x > 0, x, 1.0))).sum())


def topk_tail(ids: Array, probs: Array, tail: Array, s: Array, gradient: bool = False) -> Array:
    """Σ_K t log(t/p) + (1−T) log((1−T)/(1−P)) [C], p of the full softmax, `tail` [tokens] = 1−T as given.

    A tail of 0 contributes 0. ∂log p_i/∂s_j = 1{i=j} − p_j and ∂log(1−P)/∂s_j = 1{j∉K} p_j/(1−P) − p_j, so
    the gradient is (Σ_K t + tail) p_j − t_j in K and (Σ_K t + tail) p_j − tail · p_j/(1−P) outside.
    """
    values, slopes = np.zeros(len(s)), np.zeros(s.shape)
    for n in range(len(s)):
        kept, t = on_kept(ids[n], probs[n])
        log_p = log_softmax(s[n])
        outside = np.setdiff1d(np.arange(s.shape[1]), kept)
        values[n] = x_log_x(t) - (t * log_p[kept]).sum()
        slopes[n] = (t.sum() + tail[n]) * np.exp(log_p)
        slopes[n, kept] -= t
        if tail[n] > 0:
            if not len(outside):
                raise ValueError("a tail above 0, but no id outside K: the loss is infinite")
            largest = log_p[outside].max()
            log_rest = largest + np.log(np.exp(log_p[outside] - largest).sum())  # log(1−P)
            values[n] += tail[n] * (np.log(tail[n]) - log_rest)
            slopes[n, outside] -= tail[n] * np.exp(log_p[outside] - log_rest)
    return slopes if gradient else values


def topk_renormalised(ids: Array, probs: Array, s: Array, gradient: bool = False) -> Array:
    """KL of both sides renormalised over K: the biased control [C]. Gradient q − t/Σt in K, exactly 0 outside."""
    values, slopes = np.zeros(len(s)), np.zeros(s.shape)
    for n in range(len(s)):
        kept, t = on_kept(ids[n], probs[n])
        if t.sum() > 0:
            t, log_q = t / t.sum(), log_softmax(s[n, kept])
            values[n] = x_log_x(t) - (t * log_q).sum()
            slopes[n, kept] = np.exp(log_q) - t
    return slopes if gradient else values


def random_sampling(ids: Array, shares: Array, s: Array, gradient: bool = False) -> Array:
    """Σ share (log share − log p) over the unique drawn ids, share = count/N, p of the full softmax [C].

    Gradient (Σ share) p − share, which is p − target where shares sum to 1. Its mean over draws is forward KL's; the
    *value's* mean is not: it is above by the drawn target's mean KL to T.
    """
    values, slopes = np.zeros(len(s)), np.zeros(s.shape)
    for n in range(len(s)):
        kept, share = on_kept(ids[n], shares[n])
        log_p = log_softmax(s[n])
        values[n] = x_log_x(share) - (share * log_p[kept]).sum()
        slopes[n] = share.sum() * np.exp(log_p)
        slopes[n, kept] -= share
    return slopes if gradient else values


# Cases for any implementation.


def cases() -> dict[str, tuple[Array, Array]]:
    """Teacher and student logits [6, 11]: random, peaked (with underflow), with ids the teacher lacks."""
    rng = np.random.default_rng(0)
    t, s = 2 * rng.standard_normal((2, 6, 11))
    # Both sure of about the same id; in two rows as far apart as float64 allows no probability to show.
    peaked_t, peaked_s = 6 * rng.standard_normal((1, 6, 11)) + 2 * rng.standard_normal((2, 6, 11))
    peaked_t[0, 3], peaked_s[0, 3], peaked_s[1, 5] = 1500.0, -1500.0, 1500.0
    padded = t.copy()
    padded[:, -2:] = -np.inf  # the rows a vocabulary is padded with
    padded[1, 0] = padded[2, 4] = -np.inf
    return {"random": (t, s), "peaked": (peaked_t, peaked_s), "padded": (padded, s)}


#: T = (¾, ¼), S = (½, ½) at temperature 1, so M = (⅝, ⅜) halfway: values worked out on paper.
TWO_IDS = np.log([[0.75, 0.25]]), np.log([[0.5, 0.5]])
BY_HAND: dict[str, float] = {
    "forward_kl": np.log(27 / 16) / 4,
    "reverse_kl": np.log(4 / 3) / 2,
    "jsd(0)": np.log(27 / 16) / 4,
    "jsd(1)": np.log(4 / 3) / 2,
    "jsd(0.5)": (3 * np.log(6 / 5) + np.log(2 / 3)) / 8 + np.log(16 / 15) / 4,
    "skew_kl(0.5)": (3 * np.log(6 / 5) + np.log(2 / 3)) / 4,
    "skew_reverse_kl(0.5)": np.log(16 / 15) / 2,
    "adaptive_kl(0.5)": np.log(27 / 16) / 8 + np.log(4 / 3) / 4,  # one id is head, both weights are ½
    "adaptive_kl(0.9)": np.log(27 / 16) / 4,  # both ids are head
    "total_variation": 0.25,
}
