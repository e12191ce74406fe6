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
# # 4 · What a divergence asks of a student
#
# In logit distillation the student is told more than the next token: it sees the teacher's distribution p over all tokens, and
# its own, q, is to come near. There are several ways to measure "near", and a student that is too small to reach p ends
# somewhere else under each. Then there is the question of what to keep of p, because all of it is too much for a disk.
#
# Ten minutes, in pictures:
#
# 1. the formulas, checked by hand;
# 2. a teacher with two modes, and a student that can have only one;
# 3. what each divergence says to the logits;
# 4. the temperature, and what T² is for;
# 5. the K most likely tokens: with a bucket for the rest, and without;
# 6. tokens drawn at random (RS-KD): noisy, but right on average;
# 7. what either costs on disk.
#
# All losses and gradients are those of the lab (`dante/losses/distillation`), all settings those of `conf/divergence`.

# %%
from pathlib import Path

import numpy as np
import torch
from IPython.display import Image
from omegaconf import OmegaConf

import dante
from dante.cache import sparse
from dante.look.theme import LIGHT, grid, panel, panels, png
from dante.losses.distillation.divergences import JSD, ForwardKL, Pair, ReverseKL
from dante.losses.distillation.logits import LogitDistillation
from dante.losses.distillation.random_sampling import RandomSampling
from dante.losses.distillation.topk_renormalised import TopKRenormalised
from dante.losses.distillation.topk_tail import TopKTail
from dante.losses.one_pass import vocabulary_pass
from dante.losses.schedule import Constant
from dante.losses.tokens import SparseTargets, SupervisedTokens, TeacherSide
from dante.losses.vocabulary.head import Head
from dante.losses.vocabulary.projection import Projection
from dante.losses.vocabulary.teacher import HiddenLogits
from dante.run.parts import build

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)  # everything here is small
conf = Path(dante.__file__).resolve().parents[1] / "conf" / "divergence"
divergences = {path.stem: build(OmegaConf.to_container(OmegaConf.load(path))) for path in sorted(conf.glob("*.yaml"))}
for name, divergence in divergences.items():
    print(f"{name:16} {divergence.symbol}")

PURPLE, MAGENTA, OLIVE, RED, TEAL = LIGHT.cycle
TEACHER, STUDENT = LIGHT.models["teacher"], LIGHT.models["student"]


def show(axes, width=620):
    """A figure in the look of the lab's reports."""
    return Image(png(axes), width=width)


# %% [markdown]
# ## 4.1 The formulas, by hand
#
# | | D(p, q), in nats |
# |---|---|
# | forward KL | $\sum_i p_i \log \frac{p_i}{q_i}$ |
# | reverse KL | $\sum_i q_i \log \frac{q_i}{p_i}$ |
# | JSD(β) | $\beta\, \mathrm{KL}(p \,\Vert\, m) + (1-\beta)\, \mathrm{KL}(q \,\Vert\, m)$, $\; m = \beta p + (1-\beta) q$ |
# | skew KL(λ) | $\mathrm{KL}(p \,\Vert\, \lambda p + (1-\lambda) q)$ |
# | skew reverse KL(λ) | $\mathrm{KL}(q \,\Vert\, \lambda q + (1-\lambda) p)$ |
# | total variation | $\frac12 \sum_i \lvert p_i - q_i \rvert$ |
# | adaptive KL(μ) | $g\, \mathrm{KL}(p \,\Vert\, q) + (1-g)\, \mathrm{KL}(q \,\Vert\, p)$, g: the share of $\sum \lvert p - q \rvert$ in the teacher's head, which has mass μ |
#
# Take two tokens, p = (¾, ¼) and q = (½, ½). On paper, the forward KL is ¾ ln (3/2) + ¼ ln (1/2) = ¼ ln (27/16), the reverse KL
# ½ ln (4/3). Below, the formulas are typed again in numpy and held against the code twice: its values, and its gradients, for
# which one logit after the other is moved a little both ways. In each, the loss is $T^2 D(p_T, q_T)$ with $q_T = \mathrm{softmax}(z/T)$.


# %%
def kl(p, q):
    return (p * np.log(p / q)).sum()


def jsd(p, q, beta):
    m = beta * p + (1 - beta) * q
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


settings = {name: vars(divergence) for name, divergence in divergences.items()}
lam, mirrored = settings["skew_kl"]["skew"], settings["skew_reverse_kl"]["skew"]
by_hand = {
    "forward_kl": kl,
    "reverse_kl": lambda p, q: kl(q, p),
    "jsd": lambda p, q: jsd(p, q, settings["jsd"]["beta"]),
    "skew_kl": lambda p, q: kl(p, lam * p + (1 - lam) * q),
    "skew_reverse_kl": lambda p, q: kl(q, mirrored * q + (1 - mirrored) * p),
    "total_variation": lambda p, q: np.abs(p - q).sum() / 2,
}


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def of_the_code(divergence, t, z, temperature=1.0):
    """Value and gradient for one token with the teacher's logits t and the student's z."""
    pair = Pair.of(torch.tensor(t)[None], torch.tensor(z)[None], temperature)
    value, gradient = divergence.with_gradient(pair, temperature)
    return value.item(), gradient[0].numpy()


t, z = np.log([0.75, 0.25]), np.log([0.5, 0.5])
assert np.isclose(of_the_code(divergences["forward_kl"], t, z)[0], np.log(27 / 16) / 4)
assert np.isclose(of_the_code(divergences["reverse_kl"], t, z)[0], np.log(4 / 3) / 2)

t, z = np.random.default_rng(0).normal(0, 2, (2, 6))
T, small = 2.0, 1e-5
print("at random logits, T = 2      value   largest entry of the gradient")
for name, formula in by_hand.items():
    moved = [
        [T**2 * formula(softmax(t / T), softmax((z + sign * small * row) / T)) for sign in (1, -1)] for row in np.eye(6)
    ]
    slope = np.diff(moved, axis=1)[:, 0] / (-2 * small)
    value, gradient = of_the_code(divergences[name], t, z, T)
    assert np.isclose(value, T**2 * formula(softmax(t / T), softmax(z / T))), name
    assert np.allclose(gradient, slope, rtol=1e-6, atol=1e-8), name
    print(f"{name:24} {value:9.4f}   {np.abs(gradient).max():.4f}")

# JSD(β) vanishes at β = 0 and 1. Divided by β or 1 − β it goes to the forward and the reverse KL.
near = 1e-5
assert np.isclose(of_the_code(JSD(near), t, z)[0] / near, of_the_code(ForwardKL(), t, z)[0], rtol=1e-3)
assert np.isclose(of_the_code(JSD(1 - near), t, z)[0] / near, of_the_code(ReverseKL(), t, z)[0], rtol=1e-3)

# The adaptive KL's g is a number beside the gradient, which therefore is a mixture of both others'.
p, q = softmax(t), softmax(z)
likely = np.argsort(-p)
head = likely[: np.searchsorted(p[likely].cumsum(), settings["adaptive_kl"]["head"]) + 1]
g = np.abs(p - q)[head].sum() / np.abs(p - q).sum()
ends = [of_the_code(divergences[name], t, z)[1] for name in ("forward_kl", "reverse_kl")]
assert np.allclose(of_the_code(divergences["adaptive_kl"], t, z)[1], g * ends[0] + (1 - g) * ends[1])
print(f"adaptive KL: the {len(head)} most likely of 6 tokens are its head, g = {g:.2f}")

# %% [markdown]
# ## 4.2 Two modes, and a student that has one
#
# Sixty tokens in a row. The teacher likes those around 18 (60 %) and those around 42 (40 %). The student can only be a bell: a
# position m and a width s, $q_i \propto e^{-(i-m)^2/2s^2}$. It is too small for its teacher, as students are.
#
# It is fitted by gradient descent (Adam, 300 steps) from three starts: wide in the middle, and narrow on either mode.

# %%
TOKENS, MODES, MASS = 60, (18, 42), (0.6, 0.4)
place = torch.arange(TOKENS, dtype=torch.float64)


def bell(position, width):
    """Logits of a bell, a row per position."""
    return -((place - torch.as_tensor(position)[..., None]) ** 2) / (2 * torch.as_tensor(width)[..., None] ** 2)


floor = 1e-4  # a teacher excludes nothing entirely
teacher_p = floor / TOKENS + (1 - floor) * sum(
    mass * bell(mode, 3.5).softmax(-1) for mass, mode in zip(MASS, MODES, strict=True)
)
teacher_z = teacher_p.log()
STARTS = {"middle": (30.0, 10.0), "left": (18.0, 3.0), "right": (42.0, 3.0)}


def fitted(divergence, steps=300, rate=0.1):
    """Position, width and divergence where gradient descent ends from each start, [starts, 3]."""
    at = torch.tensor(list(STARTS.values()))
    parameters = torch.stack([at[:, 0] / 10, at[:, 1].log()]).requires_grad_()
    adam = torch.optim.Adam([parameters], lr=rate, foreach=False)
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * (1 - step / steps)
        logits = bell(10 * parameters[0], parameters[1].exp())
        value, gradient = divergence.with_gradient(Pair.of(teacher_z.expand_as(logits), logits.detach(), 1.0), 1.0)
        adam.zero_grad()
        logits.backward(gradient)
        adam.step()
    return torch.stack([10 * parameters[0].detach(), parameters[1].detach().exp(), value], dim=1).numpy()


ends = {name: fitted(divergence) for name, divergence in divergences.items()}
print("lowest end under     position   width     D   mass below 30   how many ends")
for name, end in ends.items():
    position, width, value = end[end[:, 2].argmin()]
    below = bell(position, width).softmax(-1)[:30].sum()
    count = len(np.unique(end[:, 0].round()))
    print(f"{name:20} {position:8.0f} {width:7.1f} {value:5.2f} {below:15.0%} {count:15d}")

# %% [markdown]
# Two of these can be had without any fitting. The forward KL of a bell is least where its mean and variance are the teacher's
# (moment matching). And a student that *is* one mode, of mass w, has a reverse KL of $\log \frac{q}{wq} = -\log w$ and no more:
# all that it leaves out costs 0.51 nats on the left and 0.92 on the right.


# %%
def moments(p):
    mean = (p * place).sum()
    return mean.item(), (p * (place - mean) ** 2).sum().sqrt().item()


for position, width, _ in ends["forward_kl"]:  # wherever it began
    assert np.allclose(moments(bell(position, width).softmax(-1)), moments(teacher_p), rtol=0.01)
for start, mass in ((1, MASS[0]), (2, MASS[1])):
    assert np.isclose(ends["reverse_kl"][start, 2], -np.log(mass), atol=0.01)
print("teacher's mean and deviation: {:.1f}, {:.1f}".format(*moments(teacher_p)))


# %%
def distinct(end):
    """Ends from the lowest on, without those that are another one nearly."""
    found = []
    for row in end[end[:, 2].argsort()]:
        if all(np.abs(row[:2] - other[:2]).max() > 1 for other in found):
            found.append(row)
    return found


shown = {
    "forward_kl": "forward KL covers both",
    "reverse_kl": "reverse KL picks one",
    "skew_kl": f"skew KL, λ = {lam:g}: covers",
    "skew_reverse_kl": f"skew reverse KL, λ = {mirrored:g}: picks",
    "adaptive_kl": "adaptive KL covers, here",
    "total_variation": "total variation picks, wider",
}
cells = grid(LIGHT, "One bell, two modes: who covers, who picks", 3, 2, (5.6, 4.9))
for axes, (name, title) in zip(cells, shown.items(), strict=True):
    axes.fill_between(place, teacher_p, color=TEACHER, alpha=0.3, linewidth=0)
    for number, (position, width, _) in enumerate(distinct(ends[name])):
        curve = bell(position, width).softmax(-1)
        style = {"linewidth": 1, "linestyle": (0, (3, 2))} if number else {"linewidth": 2.2}
        axes.plot(place, curve, color=STUDENT, **style)
    axes.text(1, 0.136, title, color=LIGHT.ink, fontsize=9, va="top")
    axes.set_ylim(0, 0.14)
    axes.set_yticks([0, 0.05, 0.1])
    axes.set_xlim(0, TOKENS - 1)
cells[0].text(45.5, 0.047, "teacher", color=TEACHER, fontsize=8.5, va="center")
cells[0].text(30, 0.037, "student", color=STUDENT, fontsize=8.5, ha="center")
cells[1].text(45.5, 0.1, "another start\nends here", color=STUDENT, fontsize=8, va="center")
for axes in cells[-2:]:
    axes.set_xlabel("token", color=LIGHT.muted, fontsize=9)
cells[2].set_ylabel("probability", color=LIGHT.muted, fontsize=9)
show(cells[0], 760)

# %% [markdown]
# **What one sees.** Green is the teacher, solid blue the lowest end, dashed blue where another start ended. The forward KL
# grows without bound where the student has nothing and the teacher something, so its student covers both modes, and pays with mass
# between them, where the teacher has none: text that the teacher would hardly write. The reverse KL grows without bound where the teacher has
# nothing and the student something, so its student keeps to the larger mode and forgets the other. The adaptive KL, a mixture of both, covers
# here. The forward KL has one end; most others depend on where one starts.
#
# **JSD in between.** β moves it from the forward to the reverse KL. To see both on one scale, divide by β(1 − β): then the left
# edge *is* the forward KL and the right edge *is* the reverse KL (4.1).

# %%
betas = np.arange(1, 10) / 10
between = np.stack([fitted(JSD(beta)) for beta in betas])  # [β, start, (position, width, D)]
scaled = between[:, :, 2] / (betas * (1 - betas))[:, None]
lowest = between[np.arange(len(betas)), between[:, :, 2].argmin(axis=1)]
print("  β   lowest end: position   width")
for beta, (position, width, _) in zip(betas, lowest, strict=True):
    print(f"{beta:4.1f} {position:21.0f} {width:7.1f}")

# %%
axes = panel(LIGHT, "JSD changes its mind near β = 0.5", "β", "JSD(β) / β(1 − β), nats", (4.4, 3.3))
for start, (end, colour) in enumerate(zip((28, 18, 42), (PURPLE, STUDENT, TEAL), strict=True)):
    there = np.abs(between[:, start, 0] - end) < 3  # else this end does not exist at this β
    axes.plot(betas[there], scaled[there, start], "o-", color=colour, linewidth=2.2, markersize=4)
    reverse = ends["reverse_kl"][start, 2]
    axes.plot([betas[-1], 1], [scaled[-1, start], reverse], color=colour, linewidth=1.2, linestyle=(0, (2, 2)))
    axes.plot(1, reverse, "s", color=colour, markersize=6, clip_on=False, zorder=5)
forward = ends["forward_kl"][0, 2]
axes.plot([0, betas[0]], [forward, scaled[0, 0]], color=PURPLE, linewidth=1.2, linestyle=(0, (2, 2)))
axes.plot(0, forward, "s", color=PURPLE, markersize=6, clip_on=False, zorder=5)
axes.text(0.02, forward - 0.06, "β = 0 is the forward KL", color=LIGHT.muted, fontsize=8.5, va="top")
axes.text(0.99, 1.19, "β = 1 is the reverse KL", color=LIGHT.muted, fontsize=8.5, ha="right", va="bottom")
axes.text(0.13, 0.68, "covers both", color=PURPLE, fontsize=8.5, va="center")
axes.text(0.66, 0.51, "picks the larger", color=STUDENT, fontsize=8.5, va="top", ha="center")
axes.text(0.33, 1.36, "picks the smaller", color=TEAL, fontsize=8.5)
axes.set_xlim(0, 1)
axes.set_ylim(0.3, 1.9)
show(axes)

# %% [markdown]
# **What one sees.** A line is one end of the descent, followed over β; the lowest one is what JSD wants. The student's *shape* does
# not slide from wide to narrow: it is wide until β = 0.5 and narrow from 0.6 on. What slides is the price of either. And all
# three ends are there at every β from 0.1 on: a student that starts on the wrong one stays. Real students start from
# something that was trained, so the start matters as much as β.
#
# ## 4.3 What each divergence says to the logits
#
# Take a student that sits on the left mode, a bell at 18 of width 6, and look at −∂D/∂z, token by token: up where a step raises a logit.
# The question is who tells it of the mode on the right, where it has next to nothing ($q \approx 10^{-5}$).

# %%
stuck_z = bell(18.0, 6.0)
stuck_p = stuck_z.softmax(-1)
pair = Pair.of(teacher_z[None], stuck_z[None], 1.0)
push = {name: -divergence.with_gradient(pair, 1.0)[1][0].numpy() for name, divergence in divergences.items()}
right = slice(30, TOKENS)
assert np.allclose(push["forward_kl"], teacher_p - stuck_p)
for name, values in push.items():
    print(f"{name:16} sum of the push on tokens from 30 on: {values[right].sum():9.5f}")

# %%
titles = {
    "forward_kl": "forward KL: p − q",
    "reverse_kl": "reverse KL",
    "jsd": f"JSD, β = {settings['jsd']['beta']:g}",
    "skew_kl": f"skew KL, λ = {lam:g}",
    "total_variation": "total variation",
    "adaptive_kl": f"adaptive KL, head {settings['adaptive_kl']['head']:g}",
}
cells = grid(LIGHT, "Where q is nothing, most say nothing", 3, 2, (5.6, 4.9))
for axes, (name, title) in zip(cells, titles.items(), strict=True):
    axes.plot(place, teacher_p, color=TEACHER, linewidth=1)
    axes.plot(place, stuck_p, color=STUDENT, linewidth=1, linestyle=(0, (4, 2)))
    axes.bar(place, push[name], 0.8, color=MAGENTA)
    axes.axhline(0, color=LIGHT.muted, linewidth=0.6)
    axes.text(58, 0.098, title, color=LIGHT.ink, fontsize=9, va="top", ha="right")
    axes.set_xlim(0, TOKENS - 1)
    axes.set_ylim(-0.05, 0.1)
cells[0].text(47, 0.043, "teacher p", color=TEACHER, fontsize=8.5)
cells[0].text(24.5, 0.062, "student q", color=STUDENT, fontsize=8.5)
cells[0].text(49.5, 0.018, "push", color=MAGENTA, fontsize=8.5)
for axes in cells[-2:]:
    axes.set_xlabel("token", color=LIGHT.muted, fontsize=9)
cells[2].set_ylabel("−∂D/∂z", color=LIGHT.muted, fontsize=9)
show(cells[0], 760)

# %% [markdown]
# **What one sees.** The forward KL's push is the gap p − q itself, on both modes. All others multiply by q: where the student has
# nothing, they say nothing, and the JSD says little altogether. That holds for the skew KL, too,
# as soon as q is far below λp: what keeps it finite also keeps it silent. The reverse KL is busy on the left, making the student as narrow as the mode. The adaptive KL is a mixture of the first two.
#
# ## 4.4 Temperature, and what T² is for
#
# Dividing both sides' logits by T flattens both distributions, and less likely tokens count more. It also makes everything smaller:
# the divergence falls as 1/T², and so does its gradient, once for the flat distributions and once for z/T. The loss is therefore
# $T^2 D(p_T, q_T)$ [C]. For large T, both KLs become one thing, a plain square of logit differences $d = z - t$:
#
# $$T^2 D \;\to\; \tfrac{1}{2}\,\mathrm{Var}(d), \qquad T^2\, \frac{\partial D}{\partial z_i} \;\to\; \frac{d_i - \bar d}{V}$$

# %%
temperatures = np.logspace(-0.3, 2, 60)


def at_temperature(divergence, temperature):
    value, gradient = divergence.with_gradient(Pair.of(teacher_z[None], stuck_z[None], temperature), temperature)
    return value.item(), gradient[0]


d = stuck_z - teacher_z
for divergence in (ForwardKL(), ReverseKL()):
    value, gradient = at_temperature(divergence, 1e4)
    assert np.isclose(value, d.var(correction=0) / 2, rtol=0.01)
    assert torch.allclose(gradient, (d - d.mean()) / TOKENS, rtol=0.01, atol=1e-4)
curves = {
    name: np.array(
        [(value, gradient.norm()) for value, gradient in (at_temperature(divergences[name], T) for T in temperatures)]
    )
    for name in ("forward_kl", "reverse_kl")
}
print("              with T²:  T = 1    T = 4   T = 100      without:  T = 1    T = 4    T = 100")
for name in curves:
    sizes = [at_temperature(divergences[name], T)[1].norm().item() for T in (1, 4, 100)]
    plain = [size / T**2 for size, T in zip(sizes, (1, 4, 100), strict=True)]
    print(
        f"{name}: ‖∂/∂z‖      {sizes[0]:7.3f}  {sizes[1]:7.3f}   {sizes[2]:7.3f}               {plain[0]:.3f}    {plain[1]:.3f}   {plain[2]:.1e}"
    )

# %%
stack = panels(LIGHT, "T² keeps the loss from fading", "temperature T", 2, (4.4, 4.6))
for column, (axes, name) in enumerate(zip(stack, ("value, nats", "norm of the gradient ∂/∂z"), strict=True)):
    for divergence, colour in (("forward_kl", PURPLE), ("reverse_kl", RED)):
        values = curves[divergence][:, column]
        axes.plot(temperatures, values, color=colour, linewidth=2.2)
        axes.plot(temperatures, values / temperatures**2, color=colour, linewidth=1.5, linestyle=(0, (4, 2)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.axvline(1, color=LIGHT.muted, linewidth=0.8)
    axes.set_ylabel(name, color=LIGHT.muted, fontsize=9)
stack[0].set_yticks([0.001, 0.01, 0.1, 1, 10], ["0.001", "0.01", "0.1", "1", "10"])
stack[1].set_yticks([0.0001, 0.001, 0.01, 0.1, 1], ["0.0001", "0.001", "0.01", "0.1", "1"])
stack[0].text(9, 30, "T² D", color=LIGHT.ink, fontsize=9, ha="center")
stack[0].text(40, 0.025, "D", color=LIGHT.ink, fontsize=9)
stack[0].text(1.15, 14, "forward KL", color=PURPLE, fontsize=8.5)
stack[0].text(1.15, 0.16, "reverse KL", color=RED, fontsize=8.5)
stack[0].set_ylim(1e-3, 80)
stack[1].text(9, 1.1, "of T² D", color=LIGHT.ink, fontsize=9, ha="center")
stack[1].text(40, 1e-3, "of D", color=LIGHT.ink, fontsize=9)
stack[1].set_ylim(4e-5, 4)
stack[0].set_xlim(temperatures[0], temperatures[-1])
stack[0].set_xticks([1, 10, 100], ["1", "10", "100"])
show(stack[0])

# %% [markdown]
# **What one sees.** Left of the vertical line the distributions are sharpened, right of it flattened. Dashed, without T², value and
# gradient fall a hundredfold for every tenfold T: beside any other loss, distillation would be switched off. Solid, with T², both
# settle, and forward and reverse KL become one: at T = 100 there is nothing left to choose.
#
# ## 4.5 The K most likely tokens
#
# A vocabulary has a hundred thousand tokens, and a disk has no room for that. So one keeps the teacher's K largest probabilities
# $t_i$, with mass $T = \sum_K t_i$. What of the rest? With P the student's mass on the same K tokens (and T no temperature here):
#
# | | ℓ | ∂ℓ/∂z in K | outside K |
# |---|---|---|---|
# | `topk_renormalised` | $\sum_K \hat t_i \log (\hat t_i / \hat q_i), \quad \hat t = t/T, \; \hat q = q/P$ | $\hat q_i - \hat t_i$ | **0** |
# | `topk_tail` | $\sum_K t_i \log (t_i / q_i) + (1-T) \log \frac{1-T}{1-P}$ | $q_i - t_i$ | $\left(1 - \frac{1-T}{1-P}\right) q_i$ |
#
# Why zero? $\hat q_i = e^{z_i} / \sum_{j \in K} e^{z_j}$: no logit outside K stands in it. Add 10 to one of them, and the loss
# does not notice. The bucket of the second line holds the student's mass outside K as one number to the teacher's.
#
# The student here is free, one logit per token, so that nothing but the loss is to blame. It begins in the valley between the two modes,
# with most of its mass outside the teacher's K = 24 tokens. The losses run in the pass that trains, `vocabulary_pass`; its LM head is the identity, so
# that hidden states are logits.

# %%
K = 24
kept_ids = teacher_p.topk(K).indices.sort().values
in_k = torch.zeros(TOKENS, dtype=torch.bool).index_fill(0, kept_ids, True)
tail = 1 - teacher_p[in_k].sum()
IDENTITY = Head(torch.eye(TOKENS))
sides = {
    "whole": TeacherSide(maybe_logits=HiddenLogits(Projection(IDENTITY, None, torch.float64), teacher_z[None])),
    "kept": TeacherSide(SparseTargets(kept_ids[None], teacher_p[kept_ids][None], tail[None])),
}
forward = LogitDistillation(Constant(1.0), ForwardKL(), temperature=1.0)
renormalised, with_tail, drawn = TopKRenormalised(Constant(1.0)), TopKTail(Constant(1.0)), RandomSampling(Constant(1.0))
losses = {
    "topk_renormalised": (renormalised, "kept"),
    "topk_tail": (with_tail, "kept"),
    "forward KL": (forward, "whole"),
}


def values_and_gradients(loss, logits, side):
    """Of every row; the sum over rows, so that a row's gradient is its own."""
    rows = len(logits)
    tokens = SupervisedTokens(torch.zeros(rows).long(), torch.zeros(rows).long(), {}, 1, 1, side)
    hidden = logits.detach().requires_grad_()
    result = vocabulary_pass(hidden, IDENTITY, [loss], {loss.name: 1.0}, tokens, torch.float64, tile_tokens=4096)
    (gradient,) = torch.autograd.grad(result.total, hidden)
    return result.values[loss.name], gradient


start_z = bell(30.0, 6.0)
q = start_z.softmax(-1)
print(f"mass outside K: teacher {tail:.2f}, student at the start {q[~in_k].sum():.2f}")
gradients = {
    name: values_and_gradients(loss, start_z[None], sides[side])[1][0] for name, (loss, side) in losses.items()
}
ratio = tail / q[~in_k].sum()
assert (gradients["topk_renormalised"][~in_k] == 0).all()
assert torch.allclose(gradients["topk_tail"][~in_k], (1 - ratio) * q[~in_k])
assert torch.allclose(gradients["topk_tail"][in_k], (q - teacher_p)[in_k])  # in K, the forward KL's own
moved = start_z.clone()
moved[30] += 10  # outside K
for name in ("topk_renormalised", "topk_tail"):
    before, after = (values_and_gradients(losses[name][0], z[None], sides["kept"])[0].item() for z in (start_z, moved))
    assert np.isclose(before, after) == (name == "topk_renormalised")
    outside = gradients[name][~in_k].norm()
    print(
        f"{name:18} gradient's norm outside K {outside:.3f}; ten more on a logit outside K: {before:.3f} → {after:.3f} nats"
    )


# %%
def descended(loss, side, steps=200, rate=3.0):
    """Plain gradient descent on the logits: the loss, the whole forward KL and the mass outside K over steps; the end."""
    logits, path = start_z.clone()[None], []
    for _ in range(steps + 1):
        value, gradient = values_and_gradients(loss, logits, side)
        pair = Pair.of(teacher_z[None], logits, 1.0)
        path.append([value.item(), pair.forward_kl.item(), pair.q[0, ~in_k].sum().item()])
        student, logits = pair.q[0], logits - rate * gradient
    return np.array(path), student


paths, students = {}, {}
for name, (loss, side) in losses.items():
    paths[name], students[name] = descended(loss, sides[side])
    value, whole, outside = paths[name][-1]
    print(
        f"{name:18} after 200 steps: its loss {value:.4f}, KL(teacher ‖ student) {whole:.3f} nats, mass outside K {outside:.2f}"
    )
assert (paths["topk_tail"][:, 0] <= paths["topk_tail"][:, 1] + 1e-12).all()  # never above the whole divergence

# %%
stack = panels(LIGHT, "Without a bucket the loss is happy, and wrong", "step of gradient descent", 2, (4.4, 4.6))
steps = np.arange(201)
for name, colour in (("topk_renormalised", RED), ("topk_tail", TEAL)):
    stack[0].plot(steps, paths[name][:, 0], color=colour, linewidth=2.2)
    stack[0].plot(steps, paths[name][:, 1], color=colour, linewidth=1.5, linestyle=(0, (4, 2)))
    stack[1].plot(steps, paths[name][:, 2], color=colour, linewidth=2.2)
stack[1].axhline(tail, color=TEACHER, linewidth=1.2, linestyle=(0, (2, 2)))
stack[0].text(198, 1.34, "KL(teacher ‖ student), renormalised", color=RED, fontsize=8.5, ha="right")
stack[0].text(198, 0.15, "KL(teacher ‖ student), with a bucket", color=TEAL, fontsize=8.5, ha="right")
stack[0].text(60, 0.5, "solid: the loss that each sees", color=LIGHT.ink, fontsize=8.5)
stack[1].text(198, 0.8, "topk_renormalised", color=RED, fontsize=8.5, ha="right")
stack[1].text(198, 0.14, "topk_tail", color=TEAL, fontsize=8.5, ha="right")
stack[1].text(198, 0.02, "teacher", color=TEACHER, fontsize=8.5, ha="right")
stack[0].set_ylabel("nats per token", color=LIGHT.muted, fontsize=9)
stack[1].set_ylabel("student's mass outside K", color=LIGHT.muted, fontsize=9)
stack[0].set_ylim(0, 1.6)
stack[1].set_ylim(0, 1)
stack[1].set_xlim(0, 200)
show(stack[0])

# %%
stack = panels(LIGHT, "Right inside K, and blind outside", "token", 2, (4.4, 4.2))
for axes, name, colour in zip(stack, ("topk_renormalised", "topk_tail"), (RED, TEAL), strict=True):
    axes.fill_between(place, teacher_p, color=TEACHER, alpha=0.3, linewidth=0)
    axes.plot(place, q, color=LIGHT.muted, linewidth=1, linestyle=(0, (3, 2)))
    axes.plot(place, students[name], color=colour, linewidth=2.2)
    axes.plot(kept_ids, np.full(K, -0.004), "|", color=LIGHT.ink, markersize=4)
    axes.set_ylim(-0.007, 0.08)
    axes.set_xlim(0, TOKENS - 1)
    axes.set_ylabel("probability", color=LIGHT.muted, fontsize=9)
    axes.text(58.5, 0.078, name, color=colour, fontsize=9, ha="right", va="top")
    axes.text(11.2, -0.004, "kept", color=LIGHT.ink, fontsize=7.5, ha="right", va="center")
stack[0].text(10.5, 0.05, "teacher", color=TEACHER, fontsize=8.5, ha="right")
stack[1].text(36, 0.058, "start", color=LIGHT.muted, fontsize=8.5)
show(stack[0])

# %% [markdown]
# **What one sees.** The renormalised loss falls to nothing, and its student is content: within K it has the teacher's shape. But three
# quarters of its mass lie where the teacher has next to none, and during the descent they have *grown*: levelling the peaks within
# K lowers K's whole share, and what it loses goes outside. Divided by P, that does not show. The KL over all tokens says it: it
# began at 1.54 nats and stays at 1.29. With the bucket, the mass outside comes down to the teacher's own 8 %. What the bucket cannot
# do is the shape in there: it knows one number, so the student keeps its own (the flat piece between the modes), and 0.1 nats remain.
#
# ## 4.6 Tokens drawn at random
#
# RS-KD keeps something else: N tokens drawn from p with replacement. The target $s_i$ is how often token i was drawn, over N, and the loss
# $-\sum_i s_i \log q_i$ has the gradient $q_i - s_i$. As $\mathbb{E}[s] = p$, its mean is $q - p$, the whole forward KL's gradient:
# no token is left out for good. The price is noise, which can be had by hand: counts are multinomial, so
#
# $$\mathbb{E}\, \Big\Vert \frac1n \sum_{k=1}^n s^{(k)} - p \Big\Vert^2 = \frac{1 - \sum_i p_i^2}{n N}$$
#
# for the mean over n independent draws. The top-K losses have no noise, and an error that no amount of data takes away.

# %%
N, REPEATS, MOST = 50, 16, 2048
rng = np.random.default_rng(0)
rows = sparse.RandomSampling(N, TOKENS).draw(teacher_z.expand(REPEATS * MOST, TOKENS).numpy(), rng)
side = TeacherSide(SparseTargets(*map(torch.from_numpy, (rows.ids, rows.probabilities, rows.tail))))
_, noisy = values_and_gradients(drawn, start_z.expand(REPEATS * MOST, TOKENS), side)
counts = 2 ** np.arange(12)
means = noisy.reshape(REPEATS, MOST, TOKENS).cumsum(1)[:, counts - 1] / torch.tensor(counts)[:, None]
whole = gradients["forward KL"]
error = (means - whole).square().sum(-1).mean(0).sqrt() / whole.norm()  # over repeats, relative
expected = np.sqrt((1 - teacher_p.square().sum().item()) / (N * counts)) / whole.norm().item()
fixed = {name: ((gradients[name] - whole).norm() / whole.norm()).item() for name in ("topk_renormalised", "topk_tail")}
assert np.allclose(error, expected, rtol=0.25)
print(f"different tokens of {N} draws: {(rows.ids >= 0).sum(1).mean():.1f}")
print("error of the gradient, relative to the forward KL's")
for n in (1, 32, 2048):
    at = list(counts).index(n)
    print(f"  RS-KD, mean over {n:4d} draws  {error[at]:.4f}   by hand {expected[at]:.4f}")
for name, value in fixed.items():
    print(f"  {name:27} {value:.4f}")

# %%
axes = panel(
    LIGHT,
    "Noise averages out, a bias does not",
    f"n, times {N} tokens drawn",
    "error of the gradient, relative",
    (4.4, 3.4),
)
axes.plot(counts, error, "o", color=PURPLE, markersize=5)
axes.plot(counts, expected, color=PURPLE, linewidth=1.5)
for name, colour in (("topk_renormalised", RED), ("topk_tail", TEAL)):
    axes.axhline(fixed[name], color=colour, linewidth=2.2)
    axes.text(2300, fixed[name] * 1.06, f"{name}, K = {K}", color=colour, fontsize=8.5, ha="right", va="bottom")
axes.text(1, 0.035, "RS-KD: dots measured,\nline by hand", color=PURPLE, fontsize=8.5, va="top")
axes.set_xscale("log")
axes.set_yscale("log")
axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
axes.set_yticks([0.01, 0.1, 1], ["1 %", "10 %", "100 %"])
axes.set_ylim(0.009, 1.6)
axes.minorticks_off()
show(axes)

# %% [markdown]
# **What one sees.** On logarithmic axes the noise is a straight line down, one tenth for a hundredfold n, just where the formula puts
# it. A single token's gradient is off by half. But an optimizer step averages over thousands of tokens and a run over millions, and
# the line goes on falling. The bias stays where it is: a tenth with the bucket, everything without it (an error of 100 % is what no
# gradient at all would have). K = 24 leaves 8 % of this teacher out; a teacher that is sure of itself leaves less, and then the
# bucket's line lies lower.
#
# ## 4.7 Bytes
#
# What a token costs in the files beside a cache (`dante/cache/sparse`), with codes that are made for it. The teacher is made up: Zipf's law
# over a vocabulary of 152,064, steep where it is sure and flat where it is not, so that 50 draws give about twelve different tokens, as RS-KD reports [C].
# Bytes per token are gigabytes per billion tokens.

# %%
VOCABULARY, POSITIONS = 152_064, 16
ranks = np.log1p(rng.permuted(np.tile(np.arange(VOCABULARY), (POSITIONS, 1)), axis=1))
logprobs = -ranks * rng.uniform(1.3, 2.5, (POSITIONS, 1))
logprobs -= np.logaddexp.reduce(logprobs, axis=1, keepdims=True)
order = np.argsort(-logprobs, axis=1)[:, :200]
sizes = (10, 25, 50, 100, 200)
stored = {"topk_tail": [], "random_sampling": []}
different = []
for size in sizes:
    top, draws = sparse.TopKTail(size, VOCABULARY), sparse.RandomSampling(size, VOCABULARY)
    ids = order[:, :size]
    of_draws = draws.draw(logprobs, rng)
    for kind, rows in ((top, top.keep(np.take_along_axis(logprobs, ids, axis=1), ids)), (draws, of_draws)):
        payload, numbers = kind.encode(rows)
        back = kind.decode(payload, numbers)
        assert (back.ids == rows.ids).all()
        stored[kind.name].append((payload.nbytes + numbers.nbytes) / POSITIONS)
    assert np.allclose(back.probabilities, of_draws.probabilities, atol=1e-12)  # what was drawn, exactly
    different.append((of_draws.ids >= 0).sum() / POSITIONS)
print("K or N             " + "".join(f"{size:8d}" for size in sizes))
for name, values in stored.items():
    print(f"{name:19}" + "".join(f"{value:8.1f}" for value in values) + "   bytes per token")
print("different draws    " + "".join(f"{value:8.1f}" for value in different))
print(f"all {VOCABULARY:,} logits in 16 bits: {2 * VOCABULARY:,} bytes per token")

# %%
axes = panel(LIGHT, "Draws repeat themselves, and cost less", "K or N", "bytes per token", (4.4, 3.2))
for name, colour in (("topk_tail", TEAL), ("random_sampling", PURPLE)):
    axes.plot(sizes, stored[name], "o-", color=colour, linewidth=2.2, markersize=4)
axes.text(118, 300, "topk_tail, K tokens", color=TEAL, fontsize=8.5, ha="right")
axes.text(120, 85, "random_sampling, N draws", color=PURPLE, fontsize=8.5, ha="center")
axes.set_ylim(0, 480)
axes.set_xlim(0, 205)
axes.set_xticks(sizes)
show(axes)

# %% [markdown]
# **What one sees.** Every further one of the K largest costs about two bytes: an id, and six bits of its probability. Draws fall on
# the same likely tokens again and again, and a token that was drawn ten times is stored once. At 50, either is less than a two-thousandth of
# the whole distribution.
#
# **What to take home.**
#
# - A student that cannot be its teacher must choose. The forward KL makes it cover, the reverse KL makes it pick, JSD(β) chooses by β, and the
#   start has a say.
# - Where the student has nothing, only the forward KL speaks.
# - At T ≠ 1, T² keeps the loss beside others; at a high T the divergence hardly matters.
# - Of kept logits never drop the rest: use the bucket, or draws.
#
# **Where this lives.** `dante/losses/distillation`: `divergences.py` (4.1 to 4.4), `topk_tail.py`, `topk_renormalised.py`, `random_sampling.py`;
# `dante/cache/sparse/kinds.py` (4.7). Tests hold each against a slow reference in float64 (`tests/test_logit_distillation.py`). A cache's
# own kept logits are in notebook 2.
