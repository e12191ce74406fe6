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
# # 5 · A mixture of experts made dense, by hand
#
# A mixture keeps many experts resident and runs a few of them for each token. Laguna-dense asks: can one dense unit, as wide as
# the few, take the block's place? This notebook does it to one block, with real weights: a layer of SmolLM2-135M-Instruct, split
# into a shared expert and twelve routed ones as the pocket mixture is.
#
# Ten minutes, in pictures:
#
# 1. the split, and why nothing is lost with all experts on;
# 2. a router, and what it leaves out;
# 3. what a calibration counts: frequency, CP, ACP, and how alike experts are;
# 4. which experts to keep, measured: random ones, the most frequent, DO-ACP;
# 5. matching the unit to the block, from two beginnings;
# 6. how stock classes store it: the padding trick, and experts that are always on.
#
# Everything is the lab's own code (`dante/densify`, `dante/models/moe`).

# %%
import tempfile
from pathlib import Path

import numpy as np
import torch
from IPython.display import Image, display
from IPython.utils.capture import capture_output
from transformers import AutoModelForCausalLM, AutoTokenizer

from dante.cache import read_records
from dante.cache.shipped import POCKET
from dante.densify.calibration.statistics import Gathering
from dante.densify.choice import Acp, DoAcp, Frequency
from dante.densify.fill import Drawn, Selected
from dante.densify.mixture.neurons import activity, balanced_clusters, most_active
from dante.densify.mixture.router import fit_router
from dante.densify.refit import nmse
from dante.look.theme import LIGHT, panel, png
from dante.models.moe.adapter import Routing, SparseBlock
from dante.models.moe.adapters.packed import mlp_unit
from dante.models.moe.glu import DenseGlu, Glu, concatenate
from dante.run.parts import build
from dante.text.chat import ChatRenderer

LAYER, SHARED, EXPERTS, TOP_K = 14, 768, 12, 8
PURPLE, MAGENTA, OLIVE, RED, TEAL = LIGHT.cycle
torch.set_num_threads(2)


def show(axes, width=620):
    """A figure in the look of the lab's reports."""
    return Image(png(axes), width=width)


# %% [markdown]
# ## 5.1 A dense MLP, and what enters it
#
# The weights come out of a Python package. Ten answers of the shipped cache are read, and what enters the MLP of layer 14 is kept. The
# last quarter of these tokens is held out: nothing is fitted on it.

# %%
with capture_output(), tempfile.TemporaryDirectory() as folder:
    teacher = build(
        {
            "_target_": "dante.teachers.pocket.PocketTeacher",
            "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        }
    )
    place = Path(folder) / teacher.make(Path(folder)).model
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval().requires_grad_(False)
    renderer = ChatRenderer(AutoTokenizer.from_pretrained(place))

entered = []
model.model.layers = model.model.layers[: LAYER + 1]  # the rest is not needed
mlp = model.model.layers[LAYER].mlp
hook = mlp.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0][0]))
with torch.no_grad():
    for record in read_records(POCKET, "train")[:10]:
        ids = renderer.render(record.prompt, record.teacher_text).input_ids[:256]
        model.model(input_ids=torch.tensor([ids]), use_cache=False)
hook.remove()
x_TD = torch.cat(entered)
fitted = len(x_TD) * 3 // 4
dense = mlp_unit(mlp)
print(f"a unit of {dense.size} neurons on states of {x_TD.shape[1]}")

# %% [markdown]
# Every neuron has its times. The 768 that say most become the shared expert, which every token goes through; the others are
# clustered by *when* they speak and how loud, with clusters of equal size. A cluster is an expert.

# %%
with torch.no_grad():
    activity_TN = activity(dense, dense.hidden(x_TD[:fitted]))
    shared_neurons, others = most_active(activity_TN, SHARED)
    clusters = balanced_clusters(activity_TN[:, others], EXPERTS, seed=0)


def part(neurons):
    """Some neurons of the dense unit, as a unit."""
    return Glu(dense.gate[neurons], dense.up[neurons], dense.down[:, neurons], dense.activation)


shared, experts = part(shared_neurons), [part(others[cluster]) for cluster in clusters]
whole = concatenate([shared, *experts])
distance = (whole(x_TD) - dense(x_TD)).abs().max() / dense(x_TD).abs().max()
print(f"shared {shared.size}, {len(experts)} experts of {experts[0].size}")
print("all of them together are the dense unit, to 1e-5 of its largest output:", bool(distance < 1e-5))

# %% [markdown]
# ## 5.2 A router, and what it leaves out
#
# Which experts will be loud is predicted from what enters the block, by ridge regression. The loudest eight of twelve are run. Logits
# of a sigmoid router are kept tiny, so that its normalised weights are all 1/8; with a scaling of 8 each chosen expert enters once.

# %%
loudness_TE = torch.stack([expert(x_TD).norm(dim=1) for expert in experts], dim=1)
router = fit_router(x_TD[:fitted], loudness_TE[:fitted], ridge=1e-3)
weight, bias = router.weight.float(), router.bias.float()


def route(x):
    """A sigmoid router whose bias selects, and weighs nothing."""
    scores = torch.sigmoid(x @ weight.T)
    chosen = (scores + bias).topk(TOP_K, dim=1).indices
    weights = scores.gather(1, chosen)
    return Routing(weights / weights.sum(1, keepdim=True), chosen)


block = SparseBlock(EXPERTS, TOP_K, float(TOP_K), route, lambda number: experts[number], shared)
y_TD = block(x_TD)
predicted, oracle = route(x_TD[fitted:]).experts, loudness_TE[fitted:].topk(TOP_K, dim=1).indices
hits_T = torch.tensor([len(set(a) & set(b)) for a, b in zip(predicted.tolist(), oracle.tolist(), strict=True)])
axes = panel(LIGHT, "When each expert is loud (darker) on 80 tokens", "token", "expert")
axes.imshow((loudness_TE / loudness_TE.mean(0))[:80].T, aspect="auto", cmap="Purples", vmin=0.4, vmax=2)
axes.grid(False)
display(show(axes))

right_choices = range(2 * TOP_K - EXPERTS, TOP_K + 1)
shares = [float((hits_T == count).float().mean()) for count in right_choices]
title = "The router on tokens that it was not fitted on"
axes = panel(LIGHT, title, "right choices of eight (four are right whatever it does)", "share of tokens")
axes.bar(right_choices, shares, color=PURPLE)
show(axes)

# %% [markdown]
# ## 5.3 What a calibration counts
#
# ```
# α_e = E_t[w_e · 1{e selected}]     CP_e = mean w_e where selected     ACP_e = CP_e · √(E_t‖f_e‖²)
# DO-ACP: K_ij = √(ACP_i ACP_j) · E_t⟨f_i, f_j⟩, greedily the set with the largest logdet(K_S + λI)
# ```
#
# In this mixture all weights are alike, so CP says nothing. Some experts are chosen twice as often as others, but they are about as loud,
# and hardly two say the same. In a mixture that was trained as one they differ in all of these.

# %%
gathering = Gathering(block)
gathering.add(x_TD[:fitted])
statistics = gathering.result()
print("CP is 1/8 for every expert:", bool((statistics.cp - 1 / 8).abs().max() < 1e-3))
axes = panel(LIGHT, "How often each expert is chosen", "expert", "share of tokens")
axes.bar(range(EXPERTS), statistics.count / statistics.tokens, color=PURPLE)
display(show(axes))
axes = panel(LIGHT, "ACP: how loud each expert is", "expert", "ACP")
axes.bar(range(EXPERTS), statistics.acp, color=PURPLE)
display(show(axes))
size_E = statistics.gram.diagonal().sqrt()
cosine_EE = (statistics.gram / size_E[:, None] / size_E).fill_diagonal_(float("nan"))
title = "Hardly two experts say the same: cosines, −0.1 (orange) to 0.1 (purple)"
axes = panel(LIGHT, title, "expert", "expert", (4.4, 4.4))
axes.imshow(cosine_EE, cmap="PuOr", vmin=-0.1, vmax=0.1)
axes.grid(False)
show(axes, 430)

# %% [markdown]
# ## 5.4 Which experts to keep
#
# The dense unit has room for eight. Its error is what it says less what the block says, squared, over the square of what the block
# says (NMSE). Sets of experts drawn at random show how much the choice matters.

# %%
draws = np.random.default_rng(0)


def unit_of(chosen):
    """The shared expert and some others, side by side, each once."""
    return concatenate([shared, *(experts[number] for number in chosen)])


sets = {"frequency": Frequency(), "ACP": Acp(), "DO-ACP": DoAcp()}
kept = range(1, EXPERTS + 1)
errors = {
    name: [nmse(unit_of(choice.choose(statistics, k)), x_TD[fitted:], y_TD[fitted:]) for k in kept]
    for name, choice in sets.items()
}
random_sets = [
    [nmse(unit_of(draws.choice(EXPERTS, k, replace=False)), x_TD[fitted:], y_TD[fitted:]) for _ in range(10)]
    for k in kept
]
axes = panel(LIGHT, "Error of the unit by how many experts it holds", "experts kept", "NMSE against the block")
axes.violinplot(random_sets, positions=list(kept), widths=0.7, showextrema=False)
for (name, values), colour in zip(errors.items(), (MAGENTA, OLIVE, TEAL), strict=True):
    axes.plot(kept, values, "o-", color=colour, label=name, linewidth=1.6, markersize=4)
axes.axvline(TOP_K, color=LIGHT.grid, linewidth=1)
axes.set_ylim(bottom=0)
axes.legend(frameon=False, title="shaded: sets drawn at random", title_fontsize=8)
show(axes)

# %% [markdown]
# Here the choice hardly matters, which the last figures have announced; how many are kept does. What the published order of choices
# (DO-ACP, ACP, frequency, CP) rests on, experts that repeat each other or are seldom asked, this mixture does not have:
# `experiments/moe_to_dense` finds the same over all layers.
#
# Eight of twelve leave an error; so do twelve, because the block itself runs only eight for each token. The unit never is the block:
# it has no router. What is left is for training.
#
# ## 5.5 Matching, from two beginnings
#
# Stage 1 of Laguna-dense trains the unit on the block's own inputs and outputs. The same unit, once as DO-ACP has made it and once drawn
# at random with the deviation of the block's weights.

# %%
with torch.no_grad():
    warm = concatenate([shared, Selected(DoAcp()).routed(block, statistics, "uniform")])
    cold = Drawn(seed=0).routed(block, None, "uniform")


def matched(unit, steps=80, tokens=96):
    """NMSE on held-out tokens while the unit learns on the others."""
    torch.manual_seed(0)
    student, curve = DenseGlu(unit), []
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.0)
    for step in range(steps):
        curve.append(nmse(student.unit, x_TD[fitted:], y_TD[fitted:]))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / steps)
        batch = torch.randint(fitted, (tokens,))
        loss = (student(x_TD[batch]) - y_TD[batch]).square().sum() / y_TD[batch].square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student, np.array(curve)


x_TD, y_TD = x_TD.detach(), y_TD.detach()
(trained, warm_curve), (_, cold_curve) = matched(warm), matched(cold)
axes = panel(LIGHT, "A unit made of experts begins below where a random one ends", "step", "NMSE, held out")
for curve, name, colour in ((cold_curve, "random", MAGENTA), (warm_curve, "DO-ACP", TEAL)):
    axes.plot(curve, color=colour, label=name, linewidth=1.5)
axes.set_yscale("log")
axes.legend(frameon=False)
print("DO-ACP before the first step is better than random after the last:", bool(warm_curve[0] < cold_curve[-1]))
show(axes)

# %% [markdown]
# ## 5.6 Two ways to store it
#
# Stock classes have no field for "a dense unit where a sparse block was". Two that they have:
#
# *Padded*: a dense layer of one width for all layers, with rows of zeros behind the narrower units' own. silu(0) · 0 = 0, so nothing
# changes; and a row of zeros gets no gradient, so it stays a row of zeros if somebody trains on.
#
# *Always on*: the shared expert beside routed ones that are chosen for every token. `glm4_moe` needs two of them, so the routed part is
# cut into two halves, each with the weight 1/2 of a router of zeros, and a scaling of 2.

# %%
unit = trained.unit
padded = DenseGlu(unit.padded(dense.size))
with torch.no_grad():
    before, after = unit(x_TD), padded(x_TD)
print(
    "padded from",
    unit.size,
    "to",
    dense.size,
    "neurons; the same output:",
    bool(torch.allclose(before, after, atol=1e-5)),
)
(padded(x_TD[:64]) - y_TD[:64]).square().sum().backward()
gradients = [padded.gate_proj.weight.grad[unit.size :], padded.down_proj.weight.grad[:, unit.size :]]
print("gradient of the zeros:", *(float(gradient.abs().max()) for gradient in gradients))

routed = unit.rows(SHARED, unit.size)
halves = [routed.rows(0, routed.size // 2), routed.rows(routed.size // 2, routed.size)]
always_on = SparseBlock(
    2, 2, 2.0, lambda x: Routing(torch.full((len(x), 2), 0.5), torch.tensor([[0, 1]]).expand(len(x), 2)),
    lambda number: halves[number], unit.rows(0, SHARED),
)  # fmt: skip
print("two halves that are always on say the same:", bool(torch.allclose(always_on(x_TD), before, atol=1e-5)))

# %% [markdown]
# The whole of it, all layers at once and then the student as a whole against the mixture's distributions on chats:
# `python train.py +experiment=laguna_dense`. What it comes to stands in `experiments/`.
