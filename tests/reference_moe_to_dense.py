"""Slow, obvious float64 references for turning a mixture-of-experts block into one dense GLU (METHODS, section 4).

numpy only, one token or one expert at a time. T tokens, E experts, D width, I expert width, k experts selected per
token, K experts kept. An expert is a dict that `glu` takes as keywords: gate [I, D], up [I, D], down [D, I] and
optionally gate_bias [I], up_bias [I], down_bias [D].

The block is y = scaling · Σ w_e f_e(x) + shared(x). `statistics` is about w *without* scaling (Σ w = 1 where the router
normalises): `concatenate` multiplies by scaling itself. A router that folds it in (glm4_moe) gives weights to which
scaling = 1 belongs; otherwise `conditional` and `marginal` scales would count it twice.

Ties go to the lowest index everywhere. Marks [C], [S], [I] are those of METHODS; [A] is an assumption made here,
because METHODS leaves it open.
"""

from typing import Any

import numpy as np

Array = np.ndarray
Expert = dict[str, Any]


def sigmoid(z: Array) -> Array:
    """1 / (1 + e^−z), without overflow and relatively exact on both sides."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(z, np.float64)))


def softmax(z: Array) -> Array:
    """Softmax of one row."""
    e = np.exp(z - z.max())
    return e / e.sum()


def largest(row: Array, n: int) -> list[int]:
    """Indices of the n largest entries, the largest first, equal ones by their index."""
    return [int(i) for i in np.argsort(-np.asarray(row, np.float64), kind="stable")[:n]]


# The block.


def glu(
    x: Array,
    gate: Array,
    up: Array,
    down: Array,
    gate_bias: Array | None = None,
    up_bias: Array | None = None,
    down_bias: Array | None = None,
    kind: str = "silu",
    alpha: float = 1.702,
    limit: float = 7.0,
) -> Array:
    """One GLU on x [T, D] → [T, D]: down · h + down_bias, with g = gate·x + gate_bias and u = up·x + up_bias.

    silu:    h = g · sigmoid(g) · u
    gpt_oss: g ← min(g, limit), u ← clip(u, −limit, limit), h = (u + 1) · g · sigmoid(alpha · g)
    """
    if kind not in ("silu", "gpt_oss"):
        raise ValueError(f"kind={kind!r}: choose silu or gpt_oss")
    x, gate, up, down = (np.asarray(a, np.float64) for a in (x, gate, up, down))
    y = np.zeros((len(x), len(down)))
    for t in range(len(x)):
        g = gate @ x[t] + (0.0 if gate_bias is None else gate_bias)
        u = up @ x[t] + (0.0 if up_bias is None else up_bias)
        if kind == "silu":
            h = g * sigmoid(g) * u
        else:
            g = np.minimum(g, limit)
            u = np.maximum(np.minimum(u, limit), -limit)
            h = (u + 1) * g * sigmoid(alpha * g)
        y[t] = down @ h + (0.0 if down_bias is None else down_bias)
    return y


def expert_outputs(x: Array, experts: list[Expert], **activation: Any) -> Array:
    """f_e(x_t), unweighted, of every expert on every token [E, T, D]; activation: kind, alpha, limit of `glu`."""
    return np.stack([glu(x, **expert, **activation) for expert in experts])


def moe_block(
    outputs: Array, weights: Array, indices: Array, scaling: float = 1.0, shared_output: Array | None = None
) -> Array:
    """y_t = scaling · Σ_e w_te f_e(x_t) + shared(x_t) [C] from outputs [E, T, D], weights and indices [T, k]."""
    y = np.zeros(outputs.shape[1:])
    for t in range(len(y)):
        for w, e in zip(weights[t], indices[t], strict=True):
            y[t] += scaling * w * outputs[e, t]
        if shared_output is not None:
            y[t] += shared_output[t]
    return y


# Routers: logits [T, E] → weights [T, k], indices [T, k], the chosen ones in descending order of what chose them.


def sigmoid_router(
    logits: Array, bias: Array, k: int, scaling: float = 1.0, normalise: bool = True
) -> tuple[Array, Array]:
    """s = sigmoid(logits); the top k of s + bias; w = scaling · s_sel / Σ s_sel [C] (normalise=False: scaling · s_sel).

    The bias selects, it does not weigh. No epsilon in the denominator (glm4_moe adds 1e-20) and no expert groups [A].
    """
    logits = np.asarray(logits, np.float64)
    weights, indices = np.zeros((len(logits), k)), np.zeros((len(logits), k), dtype=np.int64)
    for t in range(len(logits)):
        s = sigmoid(logits[t])
        chosen = largest(s + bias, k)
        w = s[chosen]
        if normalise:
            w = w / w.sum()
        weights[t], indices[t] = scaling * w, chosen
    return weights, indices


def softmax_router(logits: Array, k: int, normalise: bool = True) -> tuple[Array, Array]:
    """p = softmax over all E; the top k of p; w = p_sel / Σ p_sel (normalise) or p_sel."""
    logits = np.asarray(logits, np.float64)
    weights, indices = np.zeros((len(logits), k)), np.zeros((len(logits), k), dtype=np.int64)
    for t in range(len(logits)):
        p = softmax(logits[t])
        chosen = largest(logits[t], k)  # the order of p, but without the ties that underflow makes
        w = p[chosen]
        if normalise:
            w = w / w.sum()
        weights[t], indices[t] = w, chosen
    return weights, indices


def topk_softmax_router(logits: Array, k: int) -> tuple[Array, Array]:
    """The top k logits and w = softmax over those (gpt_oss, granite)."""
    logits = np.asarray(logits, np.float64)
    weights, indices = np.zeros((len(logits), k)), np.zeros((len(logits), k), dtype=np.int64)
    for t in range(len(logits)):
        chosen = largest(logits[t], k)
        weights[t], indices[t] = softmax(logits[t, chosen]), chosen
    return weights, indices


# Statistics and selection.


def statistics(weights: Array, indices: Array, outputs: Array) -> dict[str, Array]:
    """Calibration statistics from the router's weights and indices [T, k] and every f_e(x_t) [E, T, D] [C].

    alpha  [E]     E_t[w_e · 1{e selected}]
    count  [E]     tokens that select e
    cp     [E]     mean w_e over the tokens that select e; 0 for an expert that none selects (0/0 in METHODS [A])
    energy [E]     E_t ‖f_e(x_t)‖² over *all* tokens
    acp    [E]     cp · √energy
    gram   [E, E]  E_t ⟨f_i(x_t), f_j(x_t)⟩ over all tokens
    """
    outputs = np.asarray(outputs, np.float64)
    n_experts, n_tokens, _ = outputs.shape
    mass, count, gram = np.zeros(n_experts), np.zeros(n_experts, dtype=np.int64), np.zeros((n_experts, n_experts))
    energy, cp = np.zeros(n_experts), np.zeros(n_experts)
    for t in range(n_tokens):
        for w, e in zip(weights[t], indices[t], strict=True):
            mass[e] += float(w)
            count[e] += 1
    for e in range(n_experts):
        if count[e] > 0:
            cp[e] = mass[e] / count[e]
        for t in range(n_tokens):
            energy[e] += (outputs[e, t] ** 2).sum() / n_tokens
        for other in range(n_experts):
            for t in range(n_tokens):
                gram[e, other] += (outputs[e, t] * outputs[other, t]).sum() / n_tokens
    return {
        "alpha": mass / n_tokens,
        "count": count,
        "cp": cp,
        "energy": energy,
        "acp": cp * np.sqrt(energy),
        "gram": gram,
    }


def do_acp_kernel(acp: Array, gram: Array) -> Array:
    """K_ij = √(I_i I_j) · E_t⟨f_i, f_j⟩, I = ACP [C].

    Read literally: the Gram matrix is not normalised to cosines, so ‖f‖ counts in I and again in the inner product,
    K_ii = CP_i · energy_i^{3/2} [A].
    """
    kernel = np.zeros(gram.shape)
    for i in range(len(acp)):
        for j in range(len(acp)):
            kernel[i, j] = np.sqrt(acp[i] * acp[j]) * gram[i, j]
    return kernel


def do_acp_lambda(kernel: Array, K: int) -> float:
    """λ = mean(diag kernel) / K: the mean over all E experts, divided by the *number* K of kept ones [A: K is both]."""
    return float(np.diag(kernel).sum() / len(kernel) / K)


def log_determinant(matrix: Array) -> float:
    """logdet of a positive semi-definite matrix; −inf where it is singular or rounding made it negative."""
    sign, value = np.linalg.slogdet(matrix)
    return float(value) if sign > 0 else -np.inf


def do_acp_select(kernel: Array, K: int) -> list[int]:
    """Greedily maximise logdet(K_S + λI) until |S| = K [C]; the experts in the order of choice.

    Each candidate's determinant is computed from scratch. Equal ones: the lowest index. A kernel of zeros has λ = 0 and
    −inf for all, so the first K experts.
    """
    lam = do_acp_lambda(kernel, K)
    chosen: list[int] = []
    while len(chosen) < K:
        best, best_value = -1, -np.inf
        for e in range(len(kernel)):
            if e in chosen:
                continue
            s = [*chosen, e]
            value = log_determinant(kernel[np.ix_(s, s)] + lam * np.eye(len(s)))
            if best == -1 or value > best_value:
                best, best_value = e, value
        chosen.append(best)
    return chosen


def select(stats: dict[str, Array], method: str, K: int) -> list[int]:
    """The K experts that a method keeps, the best first; equal ones by their index.

    METHODS lists α_e = E_t[w_e · 1{e selected}] first and names `frequency` without tying the two together; the
    published comparison speaks of "selection frequency". They differ, so both are here [A]:
    frequency  how often e is selected (`count`)
    alpha      its routing mass α_e
    cp, acp    CP_e, ACP_e
    do_acp     `do_acp_select` of `do_acp_kernel`
    """
    if method == "do_acp":
        return do_acp_select(do_acp_kernel(stats["acp"], stats["gram"]), K)
    scores = {"frequency": "count", "alpha": "alpha", "cp": "cp", "acp": "acp"}
    if method not in scores:
        raise ValueError(f"method={method!r}: choose one of {', '.join([*scores, 'do_acp'])}")
    return largest(stats[scores[method]], K)


# The dense GLU.


def scales(stats: dict[str, Array], selected: list[int], kind: str) -> Array:
    """s_e [K] of the selected experts, in their order.

    uniform      1/K
    conditional  CP_e, the mean weight when selected
    normalised   α_e / Σ_S α; zeros where every selected expert is dead [A]
    marginal     α_e
    """
    alpha, n = stats["alpha"], len(selected)
    if kind == "uniform":
        return np.array([1 / n for _ in selected])
    if kind == "conditional":
        return np.array([stats["cp"][e] for e in selected])
    if kind == "marginal":
        return np.array([alpha[e] for e in selected])
    if kind == "normalised":
        total = sum(float(alpha[e]) for e in selected)
        return np.array([alpha[e] / total if total > 0 else 0.0 for e in selected])
    raise ValueError(f"kind={kind!r}: choose uniform, conditional, normalised or marginal")


def concatenate(experts: list[Expert], scales: Array, scaling: float, shared: Expert | None = None) -> Expert:
    """The dense GLU whose output is shared(x) + Σ_e scaling · s_e · f_e(x) [C], as a dict for `glu`.

    gate, up and their biases: rows one below the other. down: columns side by side, those of e times scaling · s_e.
    down_bias: Σ scaling · s_e · b_e. The shared expert stands in front, unscaled, its down_bias with factor 1.
    A missing bias is 0 where another expert has one; no key where none has one.
    """
    parts: list[tuple[float, Expert]] = [] if shared is None else [(1.0, shared)]
    for s, expert in zip(scales, experts, strict=True):
        parts.append((scaling * float(s), expert))

    dense: Expert = {
        "gate": np.concatenate([np.asarray(part["gate"], np.float64) for _, part in parts], axis=0),
        "up": np.concatenate([np.asarray(part["up"], np.float64) for _, part in parts], axis=0),
        "down": np.concatenate([factor * np.asarray(part["down"], np.float64) for factor, part in parts], axis=1),
    }
    for name in ("gate_bias", "up_bias"):
        if any(part.get(name) is not None for _, part in parts):
            rows = []
            for _, part in parts:
                bias = part.get(name)
                rows.append(np.zeros(len(part["gate"])) if bias is None else np.asarray(bias, np.float64))
            dense[name] = np.concatenate(rows)
    if any(part.get("down_bias") is not None for _, part in parts):
        dense["down_bias"] = np.zeros(len(dense["down"]))
        for factor, part in parts:
            if part.get("down_bias") is not None:
                dense["down_bias"] += factor * np.asarray(part["down_bias"], np.float64)
    return dense


def merge_groups(selected: list[int], scores: Array, k: int) -> list[list[int]]:
    """K selected experts in k groups: the i-th best by scores [E] goes to group i mod k.

    METHODS says only "merges K into k groups"; who goes with whom is our round robin by score [A]. So the k best are
    in different groups, each the first of its own.
    """
    if not 1 <= k <= len(selected):
        raise ValueError(f"k={k} groups of {len(selected)} selected experts: choose 1 to {len(selected)}")
    groups: list[list[int]] = [[] for _ in range(k)]
    for i, e in enumerate(sorted(selected, key=lambda e: (-scores[e], e))):
        groups[i % k].append(e)
    return groups


def merge(experts: list[Expert], selected: list[int], scores: Array, k: int) -> list[Expert]:
    """The k merged experts of `merge_groups`: W_g = Σ_{e∈g} score_e W_e / Σ_{e∈g} score_e, for every matrix and bias.

    experts are all E, scores [E] >= 0. gate, up and down are averaged entry by entry, neurons as they stand (no
    permutation is sought) [A]; a group whose scores are all 0 takes the plain mean [A]; a bias that only
    some of the group have counts as 0 for the others [A]. Width stays k · I; each merged expert then counts as one
    selected expert, whose `uniform` scale is 1/k [A].
    """
    merged: list[Expert] = []
    for group in merge_groups(selected, scores, k):
        total = sum(float(scores[e]) for e in group)
        shares = [float(scores[e]) / total if total > 0 else 1 / len(group) for e in group]
        one: Expert = {}
        for name in ("gate", "up", "down", "gate_bias", "up_bias", "down_bias"):
            for share, e in zip(shares, group, strict=True):
                if experts[e].get(name) is not None:
                    one[name] = one.get(name, 0.0) + share * np.asarray(experts[e][name], np.float64)
        merged.append(one)
    return merged


def ridge_down(H: Array, Y: Array, lam: float) -> Array:
    """W = Yᵀ H (HᵀH + λI)⁻¹ [D, W] from hidden activations H [T, W] and targets Y [T, D], tokens as rows.

    METHODS writes W = Y Hᵀ (H Hᵀ + λI)⁻¹ with tokens as columns. It minimises Σ_t ‖W h_t − y_t‖² + λ‖W‖²: a sum over
    tokens, so λ is absolute, not relative to T or to the mean of the diagonal [A]. There is no bias: the caller
    subtracts a down_bias from Y [A].
    """
    H, Y = np.asarray(H, np.float64), np.asarray(Y, np.float64)
    hh, yh = lam * np.eye(H.shape[1]), np.zeros((Y.shape[1], H.shape[1]))
    for t in range(len(H)):
        hh += np.outer(H[t], H[t])
        yh += np.outer(Y[t], H[t])
    return np.linalg.solve(hh, yh.T).T  # hh is symmetric: W hh = yh ⇔ hh Wᵀ = yhᵀ


# Losses. A token of mask 0 is not read, so it may hold NaN.


def nmse(prediction: Array, target: Array, mask: Array, eps: float) -> float:
    """Σ_t m_t ‖f(x_t) − y_t‖² / (Σ_t m_t ‖y_t‖² + ε) [I], of one layer."""
    error = norm = 0.0
    for t in range(len(target)):
        if mask[t] != 0:
            p, y = np.asarray(prediction[t], np.float64), np.asarray(target[t], np.float64)
            error += float(mask[t] * ((p - y) ** 2).sum())
            norm += float(mask[t] * (y**2).sum())
    return error / (norm + eps)


def radlads(prediction: Array, target: Array, mask: Array) -> float:
    """mean_t ‖y_T − y_S‖₂ · d^−½ [C], the mean weighted by the mask: Σ m_t ‖·‖ / Σ m_t; 0 where nothing is kept [A]."""
    total = kept = 0.0
    for t in range(len(target)):
        if mask[t] != 0:
            p, y = np.asarray(prediction[t], np.float64), np.asarray(target[t], np.float64)
            total += float(mask[t] * np.sqrt(((y - p) ** 2).sum()) / np.sqrt(len(y)))
            kept += float(mask[t])
    return total / kept if kept > 0 else 0.0
