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
# # 7 · Two tokenizers
#
# The pair `coder` has a teacher (Qwen2.5-Coder-0.5B-Instruct) and a student (SmolLM2-135M-Instruct) that cut texts into other tokens, so
# token 17 of the one has nothing to do with token 17 of the other. This notebook shows what can be compared all the same, on shipped
# answers of the teacher and on what both models said of them before any training.
#
# 1. an answer in both tokenizers;
# 2. spans: where tokens of both end together;
# 3. how likely each of the two finds a span, and what ALM makes of that;
# 4. where entropies sit;
# 5. tokens that both vocabularies have.
#
# Everything is the lab's own code (`dante/text/tokens/spans.py`, `dante/losses/spans`); the numbers of both models lie in `data/coder`
# (`coder_data.py` makes them), so nothing has to be run or downloaded.

# %%
import json
from html import escape
from pathlib import Path

import numpy as np
import torch
from IPython.display import HTML, Image, display

from dante.cache import read_records
from dante.cache.shipped import CODER
from dante.look.theme import LIGHT, panel, png
from dante.losses.spans.alm import binary_kl
from dante.text.tokens.spans import align, span_of_tokens, sums

PURPLE, MAGENTA, OLIVE, RED, TEAL = LIGHT.cycle
TEACHER, STUDENT = LIGHT.models["teacher"], LIGHT.models["init"]

data = json.loads(Path("data/coder/answers.json").read_text(encoding="utf-8"))
texts = {record.id: record for record in read_records(CODER, "heldout")}
answers = [(texts[one["id"]], one) for one in data["answers"]]
print(f"{len(answers)} answers, {sum(len(record.teacher_text.encode()) for record, _ in answers):,} bytes")

# %% [markdown]
# ## 1 · An answer in both tokenizers
#
# Each box is a token. Both make about the same number of them of code; the borders are where they differ.

# %%
shown, both = next(
    (record, one) for record, one in answers if record.domain == "code" and len(record.teacher_text) < 900
)
text = shown.teacher_text.strip().encode()


def cut(ends):
    """The text between the ends of tokens; a token without bytes of its own (a part of a character) is empty."""
    return [text[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]


def boxes(pieces, colours):
    """Pieces of text, each on its colour."""
    spans = [
        f'<span style="background:{colour};color:#14181f">{escape(piece)}</span>'
        for piece, colour in zip(pieces, colours, strict=True)
    ]
    return f'<pre style="line-height:1.7;white-space:pre-wrap">{"".join(spans)}</pre>'


STRIPES = ("#dbe7f3", "#f6e3c5")
start = 360  # bytes that are shown
for side in ("teacher", "student"):
    ends = [end for end in both[side]["ends"] if end <= start]
    pieces = cut(ends)
    display(HTML(f"<b>{side}</b>: {len(pieces)} tokens" + boxes(pieces, [STRIPES[n % 2] for n in range(len(pieces))])))

# %% [markdown]
# ## 2 · Spans
#
# A span lies between two places where a token of the teacher and one of the student end together, in *bytes*. Both models have read the
# same text there, so what they say of the next span is about the same thing. Green: a token of each; orange: several of one side, or of
# both.

# %%
KINDS = {(True, True): "#bfe3d3", (False, True): "#f6d2a8", (True, False): "#f6d2a8", (False, False): "#f3b8a8"}


def spans_of(record, one):
    """The spans of a whole answer."""
    size = len(record.teacher_text.strip().encode())
    return align(one["student"]["ends"], one["teacher"]["ends"], 0, size)


spans = spans_of(shown, both)
ours, theirs = np.diff(spans.ours), np.diff(spans.theirs)
few = int(np.searchsorted(spans.ends, start)) - 1
pieces = [text[a:b].decode() for a, b in zip(spans.ends[:few], spans.ends[1 : few + 1], strict=True)]
display(HTML(boxes(pieces, [KINDS[bool(s == 1), bool(t == 1)] for s, t in zip(ours[:few], theirs[:few], strict=True)])))

aligned = [spans_of(record, one) for record, one in answers]
ours = np.concatenate([np.diff(one.ours) for one in aligned])
theirs = np.concatenate([np.diff(one.theirs) for one in aligned])
print(f"{len(ours):,} spans of {ours.sum():,} tokens of the student's and {theirs.sum():,} of the teacher's")
print(f"one token on both sides: {np.mean((ours == 1) & (theirs == 1)):.1%} of the spans")
print(f"several of the student's for one of the teacher's: {np.mean((ours > 1) & (theirs == 1)):.1%}; the other way round: "
      f"{np.mean((ours == 1) & (theirs > 1)):.1%}; several on both sides: {np.mean((ours > 1) & (theirs > 1)):.1%}")  # fmt: skip
print(f"the longest: {ours.max()} tokens of the student's, {theirs.max()} of the teacher's")

# %% [markdown]
# ## 3 · How likely is a span?
#
# The log-likelihood of a span is the **sum** over its tokens: the chain rule. A mean would say something else whenever the two sides have
# different numbers of tokens.

# %%
our_l = np.concatenate([
    sums(align(one["teacher"]["ends"], one["student"]["ends"], 0, int(spans.ends[-1])), one["student"]["logprobs"])
    for (_, one), spans in zip(answers, aligned, strict=True)
])  # fmt: skip
their_l = np.concatenate(
    [sums(spans, one["teacher"]["logprobs"]) for (_, one), spans in zip(answers, aligned, strict=True)]
)
print(f"mean of a span: teacher {their_l.mean():.3f}, student {our_l.mean():.3f} nats")

axes = panel(LIGHT, "Each span: how likely both find it", "teacher, log-likelihood in nats", "student")
axes.scatter(their_l, our_l, s=5, alpha=0.35, color=PURPLE, linewidths=0)
axes.plot([-6, 0], [-6, 0], color=LIGHT.ink, linewidth=0.8)
axes.set_xlim(-4, 0.1)
axes.set_ylim(-14, 0.3)
display(Image(png(axes)))

# %% [markdown]
# The answers are the teacher's own choices at T = 0, so it finds nearly every span likely; the student is surprised by some. ALM compares
# two events, *this span* and *anything else*, with probabilities u = e^{ℓ_T/τ} and v = e^{ℓ_S/τ}. What its gradient does to ℓ_S is
# (u − v)/(1 − v) after the factor τ of its weight. At τ = 1 a span that the teacher itself found unlikely hardly counts, because u is
# small; as τ grows that becomes 1 − ℓ_T/ℓ_S, and every span counts that the student finds less likely than the teacher.

# %%
ours_at = torch.linspace(-12, -0.3, 200, dtype=torch.float64)
axes = panel(
    LIGHT, "What ALM asks of a span that the teacher finds −2 nats likely", "the student's ℓ_S", "gradient, times τ"
)
for temperature, colour in ((1.0, RED), (10.0, OLIVE), (100.0, TEAL)):
    _, slope = binary_kl(torch.full_like(ours_at, -2.0), ours_at, temperature)
    axes.plot(ours_at, -slope * temperature, color=colour, label=f"τ = {temperature:g}")
axes.axhline(0, color=LIGHT.ink, linewidth=0.8)
axes.set_ylim(-1.2, 1.05)
axes.legend(frameon=False, labelcolor=LIGHT.ink, fontsize=8)
display(Image(png(axes)))

unlikely = their_l < -1
print(f"{unlikely.mean():.1%} of the spans were less likely to the teacher than −1 nat; of the loss they have")
for temperature in (1.0, 10.0, 100.0):
    value, _ = binary_kl(torch.tensor(their_l), torch.tensor(our_l), temperature)
    print(f"  τ = {temperature:<4g} {value.numpy()[unlikely].sum() / value.numpy().sum():.1%}")

# %% [markdown]
# ## 4 · Where entropies sit
#
# A model is undecided where a word begins and knows how it ends. So entropies sit at the first token of a span, and a tokenizer that cuts
# finer has more tokens that are decided already: **entropy per token is a property of the tokenizer, too**. DANTE's confidence weighting
# and ADS's difficult tokens are therefore measured in one vocabulary at a time, and per byte where two are compared.

# %%
for side, own in (("teacher", "theirs"), ("student", "ours")):
    first, later, total, size = [], [], 0.0, 0
    for (record, one), spans in zip(answers, aligned, strict=True):
        entropies = np.array(one[side]["entropies"])
        span = span_of_tokens(getattr(spans, own), len(entropies))
        begins = np.diff(span, prepend=-1) > 0
        first.append(entropies[begins])
        later.append(entropies[~begins])
        total, size = total + entropies.sum(), size + len(record.teacher_text.strip().encode())
    first, later = np.concatenate(first), np.concatenate(later)
    print(f"{side:8} first tokens of spans {first.mean():.3f} nats ({len(first):,}), later ones {later.mean():.3f} ({len(later):,}); "
          f"{total / size:.3f} per byte")  # fmt: skip

WARM = ("#ffffff", "#fdebd3", "#f9cfa0", "#ee9d68", "#d8654c")


def heat(side):
    """An answer with each token on the colour of the entropy before it."""
    ends, entropies = both[side]["ends"], both[side]["entropies"]
    kept = [n for n, end in enumerate(ends) if end <= start]
    colours = [WARM[int(np.digitize(entropies[n], [0.1, 0.4, 1.0, 2.0]))] for n in kept]
    return HTML(f"<b>{side}</b>" + boxes(cut([ends[n] for n in kept]), colours))


display(heat("teacher"), heat("student"))

# %% [markdown]
# White: below 0.1 nats; the darkest: above 2.
#
# ## 5 · Tokens that both have
#
# `matched_kl` and `gold` compare whole distributions, token by token, where both sides have a span as one token. They may do so for the
# tokens that stand for the same bytes; names do not tell, since a space is `Ġ` in one vocabulary and `▁` in another.

# %%
shared = data["vocabularies"]
print(f"teacher {shared['teacher']:,} tokens, student {shared['student']:,}, the same bytes {shared['both']:,} "
      f"= {shared['both'] / shared['student']:.0%} of the student's")  # fmt: skip
print("some of them:", shared["some"])

# %% [markdown]
# What is not shared goes into one bucket on each side, so that no mass is lost. In spans of several tokens only the observed text is the
# same on both sides: there, the loss is the KL of two events. What these losses are worth: `experiments/dante_coder`.
