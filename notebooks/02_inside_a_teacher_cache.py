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
# # 2 · Inside a teacher cache
#
# A teacher answers once; every student learns from what was written down. This notebook opens the cache that ships with the
# lab: real answers of SmolLM2-135M-Instruct, a small model that is often wrong and often unsure, which makes it a good one to
# look at. It reads files and runs no model.
#
# Marks: **[C]** confirmed in a primary source (the DANTE-Mosaic-3.5B card), **[I]** our own definition.

# %%
import json
import textwrap
import unicodedata

import numpy as np
from IPython.display import Image
from matplotlib.patches import Rectangle

from dante.cache import load_manifest, read_records
from dante.cache.shipped import POCKET
from dante.cache.sparse import SparseLogits
from dante.cache.tools.surprisal import pieces
from dante.look.theme import LIGHT, panel, panels, png
from dante.teachers.uncertainty import confidence_weight, entropy_bounds

records = read_records(POCKET)
manifest = load_manifest(POCKET)
print(f"{len(records):,} records of {manifest['teacher']['name']}:",
      ", ".join(f"{manifest['counts'][split]:,} {split}" for split in ("train", "heldout", "validation")))  # fmt: skip


def show(axes, width=620):
    """A figure in the look of the lab's reports."""
    return Image(png(axes), width=width)


# %% [markdown]
# ## 2.1 One record
#
# The card names five fields, which alone make a valid cache [C]: `prompt`, `teacher_text`, `output_entropy`,
# `self_consistency`, `difficulty_score`. The others are ours [I]. Lists are cut here.

# %%
record = next(
    record for record in records if record.prompt == "Give me three qualities of a good friend, one per line."
)
for name, value in vars(record).items():
    if isinstance(value, list):
        print(f"{name:22} {json.dumps(value[:6])[:-1]}, …  ({len(value)} numbers)")
    else:
        print(f"{name:22} {json.dumps(value, ensure_ascii=False)}")

counts = {
    name: sum(getattr(one, name) is not None for one in records) for name in ("token_logprobs", "self_consistency")
}
print(f"\nof {len(records):,} records have", ", ".join(f"{name} {count:,}" for name, count in counts.items()))

# %% [markdown]
# - `output_entropy` is the mean entropy of the teacher's next-token distribution over the answer's tokens, in nats per token, at
#   temperature 1 [I]. A server gives only the K most likely tokens (here K = 20), so the entropy is known between two bounds: the
#   field holds the lower one, `output_entropy_upper` the upper one.
# - `token_logprobs` are the log-probabilities of the tokens that were *chosen*, `token_ends` where each ends in the text's UTF-8
#   bytes. They are there for every record of this cache.
# - `self_consistency` is the share of extra samples (temperature 0.7) that agree on the answer; it costs several more answers
#   each, so only some prompts have it. `difficulty_score` is made of it and of the rank of the entropy. `null`: not measured.
#
# Two numbers per token, then, and they are not the same:
#
# | | of what | stored for |
# |---|---|---|
# | **surprisal** $-\log p(\text{token})$ | the one token that was chosen | every record (`token_logprobs`) |
# | **entropy** $-\sum_v p_v \log p_v$ | the whole distribution it was chosen from | records with sparse logits beside the cache |
#
# The next cell takes the entropies of single tokens from that second file: the K = 50 largest probabilities of each token, and the
# mass $r$ of the tail. The tail may be as concentrated as the order allows (lower bound) or spread evenly (upper bound):
#
# $$-\sum_k p_k \log p_k - r \log \min(r, p_K) \;\le\; H \;\le\; -\sum_k p_k \log p_k - r \log r + r \log(V - K) \qquad \text{[I]}$$

# %%
logits = SparseLogits(POCKET, "topk_tail")
print(f"{len(logits)} records have the {logits.header.size} largest of {logits.header.vocabulary:,} probabilities, "
      f"{logits.bytes_per_token:.0f} bytes a token")  # fmt: skip


def token_entropies(record):
    """Lower and upper bound of every token's entropy, in nats; the last one, of the end of the turn, is left out."""
    kept = -np.sort(-logits.for_record(record).probabilities, axis=1)  # largest first
    lower, upper = entropy_bounds(np.log(np.maximum(kept, 1e-300)), logits.header.vocabulary)
    return lower[:-1], upper[:-1]


with_logits = [
    record
    for record in records
    # The few whose text is cut into other tokens when it is read again are left out: their rows are not those choices.
    if record.id in logits and len(logits.for_record(record).tail) == len(record.token_ends) + 1
]
bounds = {record.id: token_entropies(record) for record in with_logits}
inside = [
    record.output_entropy <= bounds[record.id][0].mean() + 0.05
    and bounds[record.id][1].mean() <= record.output_entropy_upper + 0.05
    for record in with_logits
]
print(
    f"the K = 50 bounds lie inside the record's K = 20 bounds (to 0.05 nats) in {sum(inside)} of {len(inside)} records"
)
gap = {50: np.mean([(upper - lower).mean() for lower, upper in bounds.values()]),
       20: np.mean([record.output_entropy_upper - record.output_entropy for record in with_logits])}  # fmt: skip
print(f"mean distance of the bounds: {gap[20]:.2f} nats with K = 20, {gap[50]:.2f} with K = 50")

# %% [markdown]
# A check on the way: two engines (vLLM in bf16 when the cache was written, transformers for the logits) and two K agree on the
# same answers. The more probabilities are kept, the closer the bounds.
#
# ## 2.2 Token by token
#
# Three of those answers, of about the same length: the surest one, the middle one, and the least sure one. Every token is
# coloured twice, by the entropy of the distribution it was chosen from (lower bound, K = 50) and by its surprisal.

# %%
STEPS_NATS = (0.1, 0.5, 1.0, 2.0, 3.0, 4.0)  # where the next colour begins
COLOURS = ("#ffffff", "#fdf1d3", "#fbdc9c", "#f7b968", "#ec8a4a", "#cf5233", "#8e1f2c")
INK = (*[LIGHT.ink] * 5, "#ffffff", "#ffffff")
COLUMNS = 66


def step_of(nats):
    return sum(nats >= start for start in STEPS_NATS)


def place(texts):
    """Where each character of each text goes on a page of COLUMNS columns: (text number, column, row, characters)."""
    column, row = 0, 0
    for number, text in enumerate(texts):
        shown = "".join("⏎" if c == "\n" else c for c in text if unicodedata.category(c) != "Cc" or c == "\n")
        if column + len(shown.rstrip("⏎")) > COLUMNS and shown.strip():
            column, row = 0, row + 1
        yield number, column, row, shown
        column += len(shown)
        if "\n" in text:
            column, row = 0, row + 1


def paint(axes, texts, nats, label):
    """One answer in monospace, a box in its colour behind every token."""
    placed = list(place(texts))
    rows = 1 + max(row for _, _, row, _ in placed)
    for number, column, row, shown in placed:
        step = step_of(nats[number])
        box = Rectangle((column, row), len(shown), 0.92, facecolor=COLOURS[step], edgecolor=LIGHT.grid, linewidth=0.5)
        axes.add_patch(box)
        for offset, character in enumerate(shown):
            axes.text(column + offset + 0.5, row + 0.48, character, family="DejaVu Sans Mono", fontsize=7.6,
                      color=INK[step], ha="center", va="center")  # fmt: skip
    axes.set_xlim(0, COLUMNS)
    axes.set_ylim(rows + 0.1, -0.9)
    axes.text(0, -0.15, label, color=LIGHT.muted, fontsize=8, va="bottom")
    return rows


def coloured(record):
    """The answer twice: entropies above, surprisals below."""
    lower, _ = bounds[record.id]
    whole, texts, entropies, surprisals, first = list(pieces(record)), [], [], [], 0
    for piece in whole:  # a piece is a token, or several that share one character
        texts.append(piece.text)
        entropies.append(lower[first : first + piece.tokens].mean())
        surprisals.append(piece.surprisal)
        first += piece.tokens
    rows = 1 + max(row for _, _, row, _ in place(texts))
    weight = float(confidence_weight(np.array([record.output_entropy]))[0])
    title = f"H = {record.output_entropy:.2f} nats per token, w(H) = {weight:.2f}"
    stack = panels(LIGHT, title, "", 2, (6.4, 0.75 + 2 * 0.21 * (rows + 1)))
    paint(stack[0], texts, entropies, f"entropy at each token (mean {np.mean(lower):.2f})")
    paint(stack[1], texts, surprisals, f"surprisal of each token (mean {-np.mean(record.token_logprobs):.2f})")
    for axes in stack:
        axes.set_yticks([])
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
    return stack[0]


def legend():
    """What the colours stand for."""
    axes = panels(LIGHT, "nats", "", 1, (6.4, 0.72))[0]
    names = ["0", *[f"{start:g}" for start in STEPS_NATS]]
    for step, (name, colour) in enumerate(zip(names, COLOURS, strict=True)):
        end = f"–{names[step + 1]}" if step + 1 < len(names) else " and more"
        axes.add_patch(Rectangle((step * 9.4, 0), 9.0, 1, facecolor=colour, edgecolor=LIGHT.grid, linewidth=0.6))
        axes.text(step * 9.4 + 4.5, 0.47, name + end, color=INK[step], fontsize=8, ha="center", va="center")
    axes.set_xlim(0, COLUMNS)
    axes.set_ylim(-0.1, 1.1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    return axes


short = [one for one in with_logits if isinstance(one.prompt, str) and 20 <= len(one.token_ends) <= 40]
short.sort(key=lambda one: one.output_entropy)
sure, middle, unsure = short[0], short[len(short) // 2], short[-1]
show(legend(), width=900)


# %%
def asked(record):
    """The prompt, in lines of 100 characters."""
    return textwrap.fill(record.prompt, 100)


print(asked(sure))
show(coloured(sure), width=900)

# %%
print(asked(middle))
show(coloured(middle), width=900)

# %%
print(asked(unsure))
show(coloured(unsure), width=900)

# %% [markdown]
# **What one sees.** The sure answer copies from its prompt: once a sentence has begun, the next token is hardly in doubt. It is
# undecided only where a *choice* begins: the first word of a line, what to say next. In the unsure answer nearly every word could
# have been another. In the Italian one the first piece of a word carries the doubt, and the pieces that complete it follow
# almost freely. The lower colours are paler than the upper ones, and must be: decoding was greedy, so the chosen token is
# the most likely one, and $-\log \max_v p_v$ is never above the entropy. Surprisal alone would make a teacher look surer than
# it is.
#
# DANTE weighs *answers*, not tokens: only the mean over the upper colours reaches the loss, as the H in each title. (The title's
# H is the record's own, the lower bound from 20 probabilities; 50 of them, as in the colours, bring the bound a little higher.)
#
# ## 2.3 From entropies to weights: the whole cache
#
# $$w(H) = 0.30 + \frac{0.70}{1 + e^{\,1.5\,(H - 1.5)}} \qquad \text{[C]}$$

# %%
H = np.array([record.output_entropy for record in records])
w = confidence_weight(H)
print("             H       w(H)")
for share in (0, 0.1, 0.5, 0.9, 1):
    print(f"{share:7.0%}   {np.quantile(H, share):6.2f}   {np.quantile(w, 1 - share):6.3f}")
print(f"   mean   {H.mean():6.2f}   {w.mean():6.3f}")

# %%
upper, lower = panels(LIGHT, "From entropies to weights, over all records", "", 2, (4.6, 4.4))
upper.hist(H, bins=np.linspace(0, 4.2, 43), color=LIGHT.models["teacher"], rwidth=0.94)
upper.set_ylabel("records", color=LIGHT.muted, fontsize=9)
upper.set_ylim(0, 240)
grid = np.linspace(0, 4.2, 200)
lower.plot(grid, confidence_weight(grid), color=LIGHT.cycle[1], linewidth=2)
lower.set_ylabel("w(H)", color=LIGHT.muted, fontsize=9)
lower.set_xlabel("output entropy H (nats per token)", color=LIGHT.muted, fontsize=9)
lower.set_ylim(0.25, 1)
for axes in (upper, lower):
    axes.axvline(np.median(H), color=LIGHT.ink, linewidth=1.1, linestyle=(0, (4, 3)))
upper.annotate(f"median {np.median(H):.2f}", (np.median(H), 1), (6, -10), xycoords=("data", "axes fraction"),
               textcoords="offset points", color=LIGHT.ink, fontsize=9)  # fmt: skip
show(lower)

# %%
axes = panel(LIGHT, f"Weights from {w.min():.2f} to {w.max():.2f}: here they do differ", "w(H)", "records")
axes.hist(w, bins=np.linspace(0.30, 1.0, 36), color=LIGHT.cycle[1], rwidth=0.94)
axes.axvline(w.mean(), color=LIGHT.ink, linewidth=1.1, linestyle=(0, (4, 3)))
axes.annotate(f"mean {w.mean():.2f}", (w.mean(), 1), (6, -10), xycoords=("data", "axes fraction"),
              textcoords="offset points", color=LIGHT.ink, fontsize=9)  # fmt: skip
axes.set_xlim(0.28, 1.0)
show(axes)

# %% [markdown]
# **What one sees.** This teacher is small and unsure, so its entropies lie on the steep part of the curve and the weights spread
# over most of their range. Where a surer teacher keeps H below 0.5, w lies between 0.87 and 0.93, and CWCE is nearly a constant.
# So look at this figure before training on a cache: `python -m dante.cache stats CACHE --png cache.png` draws it, too.
#
# ## 2.4 What was dropped, and why
#
# A cache's manifest says how many answers the teacher gave, which filters looked at them in which order, and what each dropped.

# %%
generated = manifest["generated"]["answers"]
left = [("answers of the teacher", generated, "")]
for one in manifest["filters"]:
    reasons = ", ".join(f"{count} {reason}" for reason, count in one["reasons"].items())
    left.append((f"after '{one['name']}'", left[-1][1] - one["dropped"], reasons))
for name, count, reasons in left:
    print(f"{name:26}{count:6,}   {'dropped: ' + reasons if reasons else ''}")
print("the records that are left are those of the cache:", left[-1][1] == len(records))

# %%
causes = {f"{one['name']}: {reason}": count for one in manifest["filters"] for reason, count in one["reasons"].items()}
causes = {"kept": len(records), **dict(sorted(causes.items(), key=lambda item: -item[1]))}
axes = panel(LIGHT, f"Of {generated:,} answers {len(records) / generated:.0%} were kept", "answers", size_in=(5.4, 2.3))
places = -np.arange(len(causes))
colours = [LIGHT.models["teacher"], *[LIGHT.cycle[3]] * (len(causes) - 1)]
axes.barh(places, list(causes.values()), height=0.62, color=colours)
for at, count in zip(places, causes.values(), strict=True):
    axes.text(count, at, f"  {count:,}", va="center", color=LIGHT.ink, fontsize=8.5)
axes.set_yticks(places, list(causes))
axes.tick_params(axis="y", labelcolor=LIGHT.ink)
axes.grid(axis="y", visible=False)
axes.set_xlim(0, max(causes.values()) * 1.16)
show(axes, width=720)

# %%
for one in manifest["filters"]:
    for example in one["examples"][:2]:
        text = " ".join(example["text"].split())
        print(f"[{one['name']}: {example['reason']}]\n  {text[:150]}{'…' if len(text) > 150 else ''}\n")

# %% [markdown]
# **What one sees.** About one answer in five is missing, nearly all because they did not end: `repetition` is an answer that ran
# into a loop and was stopped there, `length` one that reached the limit of tokens. A student trained on them would learn not to
# stop. The third filter drops answers in English (`en`) to prompts that asked for Italian (`it`). What a filter drops is not neutral: a
# student sees only the prompts that its teacher could finish.
#
# **Where this lives.** `dante/cache`: `record.py` (the fields), `uncertainty.py` (the bounds), `sparse/` (logits), `filters/`.
# `python -m dante.cache show` prints records in colour, `audit` checks a cache against a student.
