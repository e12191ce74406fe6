# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · The losses of DANTE, by hand
#
# A student learns the text that a teacher wrote. Two losses decide what it learns:
#
# $$L(\theta; t) \;=\; \lambda_{CE}(t)\, L_{CWCE}(\theta) \;+\; \lambda_{TEA}(t)\, L_{TEA}(\theta)$$
#
# - **CWCE**, confidence-weighted cross-entropy: every answer counts, but one of which the teacher was unsure counts less;
# - **TEA**, the tied-embedding anchor: the embedding stays near where it began.
#
# This notebook computes both with a few lines of numpy and compares them with the code that trains (`dante/losses`).
# Marks as everywhere in the lab: **[C]** confirmed in a primary source (here the DANTE-Mosaic-3.5B card), **[I]** our own
# definition, because the card is silent.
#
# Nothing is typed in twice: the numbers come from `conf/`, composed as `train.py +experiment=dante_mosaic` would.

# %%
import math
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from IPython.display import Image
from omegaconf import OmegaConf
from torch import nn

import dante
from dante.fit.optimizer import OptimizerSettings, learning_rate
from dante.look.theme import LIGHT, panel, panels, png
from dante.losses.one_pass import vocabulary_pass
from dante.losses.tea import reduction_scale
from dante.losses.tokens import SupervisedTokens
from dante.losses.vocabulary.head import Head
from dante.run.config.schema import Fidelity, Fit
from dante.run.parts import build

conf = Path(dante.__file__).resolve().parents[1] / "conf"
with initialize_config_dir(config_dir=str(conf), version_base="1.3"):
    recipe = {
        fidelity: compose("train", ["+experiment=dante_mosaic", "scale=a100x8", f"fidelity={fidelity}"])
        for fidelity in ("card", "sound")
    }
losses = {
    fidelity: {name: build(OmegaConf.to_container(node, resolve=True), name=name) for name, node in cfg.losses.items()}
    for fidelity, cfg in recipe.items()
}
print(OmegaConf.to_yaml(recipe["card"].losses, resolve=True))


def show(axes, width=620):
    """A figure in the look of the lab's reports."""
    return Image(png(axes), width=width)


# %% [markdown]
# ## 1.1 How much does an answer count?
#
# The teacher's *output entropy* H of an answer is the mean entropy of its next-token distribution over the answer's tokens,
# in nats per token [I: the card names the field and no unit]. H = 0: the teacher saw one possible next token, always.
# H = ln 2 ≈ 0.69: as undecided as between two equally likely tokens, on average. The weight is
#
# $$w(H) \;=\; 0.30 + \frac{0.70}{1 + e^{\,1.5\,(H - 1.5)}} \qquad \text{[C]}$$
#
# A logistic curve that falls from just under 1 to a floor of 0.30, and stands at 0.65, halfway, at H = 1.5.

# %%
cwce = losses["card"]["cwce"]


def w(entropy):
    """The card's formula, typed again on purpose: this is the side that the code is compared with."""
    return 0.30 + 0.70 / (1 + np.exp(1.5 * (np.asarray(entropy, dtype=float) - 1.5)))


def w_of_the_code(entropies):
    """What the loss that trains multiplies the cross-entropy of records of one token with."""
    count = len(entropies)
    fields = {"output_entropy": torch.tensor(entropies, dtype=torch.float64)}
    return cwce.coefficients(SupervisedTokens(torch.zeros(count).long(), torch.arange(count), fields, 1, count)).numpy()


points = [0, 0.2, 0.5, 1, 1.5, 2, 3, 5]
print("    H    by hand   the code")
for entropy, hand, code in zip(points, w(points), w_of_the_code(points), strict=True):
    print(f"{entropy:5.1f}   {hand:8.4f}   {code:8.4f}")

# %%
grid = np.linspace(0, 6, 200)
axes = panel(LIGHT, "Weights fall from 0.93 towards 0.30", "output entropy H (nats per token)", "w(H)")
axes.plot(grid, w(grid), color=LIGHT.cycle[1], linewidth=2.2)
axes.plot(points, w(points), "o", color=LIGHT.cycle[1], markersize=5)
axes.axvspan(0, 0.5, color=LIGHT.grid, linewidth=0)
axes.text(0.56, 0.97, "H < 0.5: hardly any difference", color=LIGHT.muted, fontsize=8.5, va="center")
axes.axhline(0.30, color=LIGHT.muted, linewidth=1, linestyle=(0, (4, 3)))
axes.text(6, 0.32, "floor", color=LIGHT.muted, fontsize=8.5, ha="right")
axes.set_ylim(0.2, 1.02)
axes.set_xlim(0, 6)
show(axes)

# %% [markdown]
# **What one sees.** Dots are the points that the card's formula gives at round entropies. Between H = 0 and H = 0.5, the
# grey band, w moves by 0.06 only. A teacher that is sure of itself everywhere makes CWCE an ordinary cross-entropy times a
# constant, and Adam is nearly indifferent to constants. So look at the entropies of a cache before believing in the
# weights: notebook 2 does.
#
# ## 1.2 The schedules
#
# Both λ move over the run, as fractions of it, so that they mean the same at any length:
#
# $$\lambda_{CE}(t) = 0.70 + 0.30 \cdot \frac{\max(0,\, t - 200)}{1800} \qquad \lambda_{TEA}(t) = 1.0 \to 0.1 \text{, linear, over 2,000 steps} \qquad \text{[C]}$$
#
# The first 200 steps are the learning rate's warm-up, too: linear up to 2·10⁻⁵, then a cosine down to 0 [C; that it ends at 0
# is ours, I].

# %%
plain = OmegaConf.to_container(recipe["card"], resolve=True)
settings = OptimizerSettings.of(Fit.model_validate(plain["fit"]), Fidelity.model_validate(plain["fidelity"]))
steps = np.arange(settings.steps + 1)
ce = [cwce.weight(step / settings.steps) for step in steps]
tea = [losses["card"]["tea"].weight(step / settings.steps) for step in steps]
rate = [learning_rate(int(step), settings) for step in steps]

by_hand = 0.70 + 0.30 * np.maximum(0, steps - 200) / 1800
print("λ_CE: code equals the card's formula at every step:", bool(np.allclose(ce, by_hand, atol=1e-12)))
print(" step   λ_CE    λ_TEA   learning rate")
for step in (0, 199, 200, 1100, 2000):
    print(f"{step:5d}   {ce[step]:.3f}   {tea[step]:.4f}   {rate[step]:.2e}")

# %%
upper, lower = panels(LIGHT, "The text counts more, the anchor less", "optimizer step", 2, (4.4, 3.6))
upper.plot(steps, ce, color=LIGHT.cycle[1], linewidth=2.2)
upper.plot(steps, tea, color=LIGHT.cycle[0], linewidth=2.2)
upper.text(1970, 0.87, "λ of CWCE", color=LIGHT.cycle[1], fontsize=9, ha="right", va="top")
upper.text(1970, 0.25, "λ of TEA", color=LIGHT.cycle[0], fontsize=9, ha="right", va="bottom")
upper.set_ylim(0, 1.06)
upper.set_ylabel("weight", color=LIGHT.muted, fontsize=9)
lower.plot(steps, np.array(rate) * 1e5, color=LIGHT.cycle[4], linewidth=2.2)
lower.set_ylabel("learning rate, 10⁻⁵", color=LIGHT.muted, fontsize=9)
lower.set_ylim(0, 2.2)
for axes in (upper, lower):
    axes.axvspan(0, 200, color=LIGHT.grid, linewidth=0)
lower.text(215, 0.15, "warm-up", color=LIGHT.muted, fontsize=8.5)
show(lower)

# %% [markdown]
# **What one sees.** During the warm-up (grey) λ_CE waits at 0.70. Then it rises to 1 while the anchor's λ falls to a tenth: at
# first the embedding is held, later the text decides. But λ says nothing of how *strong* two losses are beside each other.
# That is the next question.
#
# ## 1.3 What TEA's three reductions do
#
# The card's anchor is a plain sum of squares over the whole embedding E (V rows of width d):
# $\lVert E - E_0\rVert_F^2$ [C]. The lab has two more ways to reduce it to one number [I]; they differ in a scale s only:
#
# $$L_{TEA} = s\,\lVert E - E_0\rVert_F^2, \qquad \nabla_E L_{TEA} = 2 s\,(E - E_0)$$
#
# | reduction | s | |
# |---|---|---|
# | `frobenius_sum` | $1$ | [C] |
# | `row_mean` | $1 / V$ | [I] |
# | `relative` | $1 / \lVert E_0\rVert_F^2$ | [I] |
#
# If every entry has moved by r (rms), then $\lVert E - E_0\rVert_F = r\sqrt{Vd}$, and the gradient's norm is
# $2 \lambda s\, r \sqrt{Vd}$. SmolLM3-3B has V = 128,256 and d = 2,048, its entries about 0.02 in size (what models of this kind are initialised with). No weights are needed
# for this sum: `torch.empty(..., device="meta")` has a shape and no memory.

# %%
student = recipe["card"].student.architecture
embedding = torch.empty(student.vocab_size, student.hidden_size, device="meta")
entries = embedding.numel()
size_of_an_entry = 0.02
squared_norm = torch.tensor(entries * size_of_an_entry**2)


def gradient_norm(drift_rms, scale, weight=1.0):
    return 2 * weight * scale * drift_rms * math.sqrt(entries)


scales = {
    name: float(reduction_scale(name, embedding, squared_norm)) for name in ("frobenius_sum", "row_mean", "relative")
}
print(f"E has {embedding.shape[0]:,} × {embedding.shape[1]:,} = {entries:,} entries")
print("reduction        gradient norm at drift 1e-4, λ = 1     drift where it reaches 1")
for name, scale in scales.items():
    print(f"{name:15}  {gradient_norm(1e-4, scale):10.2g}   {1 / gradient_norm(1, scale):34.1e}")

# %% [markdown]
# The token losses' gradient is clipped to a norm of at most 1 [C], over *all* parameters; the part on the embedding is smaller
# still. An anchor stops the embedding where its gradient is as large as theirs. With the plain sum that is a drift of 3·10⁻⁵,
# a thousandth of an entry: the embedding is frozen (and with it the tied LM head). With the other two it would take a drift of
# 3 to 4, a hundred times the entries: they do nothing.
#
# Hence the calibration of `fidelity=sound` [I]: λ is multiplied by κ so that at a drift of 10⁻⁴ the anchor's gradient is a tenth
# of the token losses' on the embedding, as measured during the warm-up. All three reductions then act the same.


# %%
class Embedding(nn.Module):
    """As much of a student as the anchor asks for."""

    def __init__(self, rows, width):
        super().__init__()
        self.embedding = nn.Embedding(rows, width)

    def get_input_embeddings(self):
        return self.embedding


def calibrated_gradient(reduction, drift_rms, token_gradient_norm=1.0):
    """The gradient norm that the lab's own TEA gives when a small embedding has moved by `drift_rms`."""
    torch.manual_seed(0)
    node = OmegaConf.to_container(recipe["sound"].losses.tea, resolve=True)
    anchor, model = build({**node, "reduction": reduction}, name="tea"), Embedding(512, 64)
    weight = model.embedding.weight
    anchor.attach(model, weight.detach().clone())
    direction = torch.randn_like(weight)
    with torch.no_grad():
        weight += drift_rms * direction / direction.square().mean().sqrt()
    weight.grad = torch.full_like(weight, token_gradient_norm / math.sqrt(weight.numel()))
    anchor.observe(progress=0.0, divisor=torch.ones(()))
    return anchor.term(progress=0.0).gradient_norm.item()


print("calibrated, token losses' gradient norm 1:")
print("drift rms        " + "".join(f"{name:>15}" for name in scales))
for drift in (1e-5, 1e-4, 1e-3):
    print(f"{drift:9.0e}        " + "".join(f"{calibrated_gradient(name, drift):15.3f}" for name in scales))

# %%
drifts = np.logspace(-7, 1, 100)
axes = panel(LIGHT, "One freezes, two do nothing", "rms drift of an entry of E",
             "gradient norm of the anchor", size_in=(4.4, 3.4))  # fmt: skip
lines = {name: gradient_norm(drifts, scale) for name, scale in scales.items()} | {"calibrated": 0.1 * drifts / 1e-4}
colours = dict(zip(lines, (LIGHT.cycle[3], LIGHT.cycle[4], LIGHT.cycle[2], LIGHT.cycle[0]), strict=True))
for name, values in lines.items():
    style = (0, (5, 3)) if name == "relative" else "-"
    axes.plot(drifts, values, color=colours[name], linewidth=2.2, linestyle=style)
axes.axhline(1, color=LIGHT.ink, linewidth=1)
axes.axvline(size_of_an_entry, color=LIGHT.muted, linewidth=1, linestyle=(0, (2, 2)))
axes.text(1.3e-7, 1.7, "token losses", color=LIGHT.ink, fontsize=8.5)
axes.text(0.03, 2.5e-9, "size of an entry", color=LIGHT.muted, fontsize=8.5, va="bottom")
axes.text(1.6e-3, 6e2, "frobenius_sum", color=colours["frobenius_sum"], fontsize=8.5, ha="right", va="center")
axes.text(6e-6, 4e-4, "calibrated", color=colours["calibrated"], fontsize=8.5, va="center")
axes.text(1e-4, 6e-7, "row_mean,\nrelative (dashed)", color=colours["row_mean"], fontsize=8.5, va="center")
axes.set_xscale("log")
axes.set_yscale("log")
axes.set_xlim(1e-7, 10)
axes.set_ylim(1e-9, 3e3)
axes.minorticks_off()
show(axes)

# %% [markdown]
# **What one sees.** Both axes are logarithmic, so every anchor is a straight line; what differs is where it crosses the
# horizontal line, the strength of the token losses. Left of the crossing the text decides, right of it the anchor. The plain
# sum crosses at 3·10⁻⁵, the calibrated one at 10⁻³ (a twentieth of an entry's size), the other two far beyond the size of the
# entries themselves, where no embedding ever gets.
#
# ## 1.4 One gradient of CWCE, by hand
#
# For one token with logits $z \in \mathbb{R}^V$, $p = \mathrm{softmax}(z)$ and label $y$, the cross-entropy is $-\log p_y$ and its
# gradient is $p - e_y$: push every token down by its probability, and the label up by what it lacks. CWCE multiplies by the
# weight of the token's *record* and divides by the number N of supervised tokens in the whole optimizer step [I: the card's
# index runs over responses]:
#
# $$\frac{\partial L_{CWCE}}{\partial z_i} = \frac{w(H_{r(i)})}{N}\,(p_i - e_{y_i})$$
#
# With the LM head $z_i = W h_i$ the chain rule gives $\partial L/\partial h_i = W^\top \partial L/\partial z_i$ and
# $\partial L/\partial W = \sum_i (\partial L/\partial z_i)\, h_i^\top$. Two records, three tokens, a vocabulary of five:

# %%
rng = np.random.default_rng(0)
V, d = 5, 4
W, h = rng.normal(size=(V, d)), rng.normal(size=(3, d))
y = np.array([2, 0, 4])
record, entropy = np.array([0, 0, 1]), np.array([0.2, 3.0])  # two tokens of a sure answer, one of an unsure one

z = h @ W.T
p = np.exp(z - z.max(axis=1, keepdims=True))
p /= p.sum(axis=1, keepdims=True)
error = p - np.eye(V)[y]
N = len(y)
dz = w(entropy)[record][:, None] / N * error
dh, dW = dz @ W, dz.T @ h
loss = float((w(entropy)[record] * -np.log(p[np.arange(N), y])).sum() / N)

np.set_printoptions(precision=4, suppress=True)
for token in range(N):
    print(f"token {token}: label {y[token]}, H = {entropy[record[token]]}, w = {w(entropy)[record[token]]:.4f}")
    print("   p            ", p[token])
    print("   p - e_y      ", error[token])
    print("   w/N (p - e_y)", dz[token])

# %% [markdown]
# And now the code: `vocabulary_pass` runs the LM head tile by tile (here two tokens a tile), computes the gradient in the
# forward, and never holds all logits at once. In float64 both must agree to the last digits.

# %%
hidden, head = torch.tensor(h, requires_grad=True), torch.tensor(W, requires_grad=True)
tokens = SupervisedTokens(
    labels=torch.tensor(y),
    record=torch.tensor(record),
    fields={"output_entropy": torch.tensor(entropy)},
    step_tokens=N,
    step_records=2,
)
result = vocabulary_pass(hidden, Head(head), [cwce], {"cwce": 1.0}, tokens, torch.float64, tile_tokens=2)
result.total.backward()
print(f"loss      by hand {loss:.6f}   the code {result.total.item():.6f}")
for name, ours, theirs in (("∂L/∂h", dh, hidden.grad), ("∂L/∂W", dW, head.grad)):
    largest = float(np.abs(ours - theirs.numpy()).max())
    print(f"{name}     largest difference below 1e-12: {largest < 1e-12}")

# A third opinion: move one entry of W a little both ways, and see what the loss does.
moved, small = [], 1e-6
for sign in (1, -1):
    other = W.copy()
    other[2, 1] += sign * small
    logits = h @ other.T
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    moved.append(float((w(entropy)[record] * -log_p[np.arange(N), y]).sum() / N))
print(f"∂L/∂W[2,1] by hand {dW[2, 1]:.6f}   by differences {(moved[0] - moved[1]) / (2 * small):.6f}")

# %%
axes = panel(LIGHT, "CWCE keeps the direction and shortens the step", "entry of the vocabulary", "∂L / ∂z")
width = 0.38
at = np.arange(V)
unweighted = error / N
axes.bar(at - width / 2, unweighted[2], width, color=LIGHT.models["unigram"], label="plain cross-entropy")
axes.bar(at + width / 2, dz[2], width, color=LIGHT.cycle[1], label="CWCE, w(3.0) = 0.367")
axes.axhline(0, color=LIGHT.ink, linewidth=0.8)
axes.set_xticks(at, [f"{i}\n(label)" if i == y[2] else str(i) for i in at])
axes.legend(fontsize=8.5, frameon=False, labelcolor=LIGHT.ink, loc="lower left")
print(f"the sure answer's tokens count {w(0.2) / w(3.0):.1f} times as much as the unsure one's")
show(axes)

# %% [markdown]
# **What one sees.** The label (entry 4) is pushed up — its bar is negative, and a step goes *against* the gradient — and the
# others down, each by its probability. CWCE keeps the direction and shortens the step: this token belongs to an answer of
# which the teacher was unsure (H = 3).
#
# **Where this lives.** `dante/losses/cwce.py`, `tea.py`, `schedule.py`; the pass over the vocabulary in `one_pass.py`. Tests
# hold each against a slow reference in float64 (`tests/test_losses.py`), and the numbers above against the card
# (`tests/test_published_values.py`).
