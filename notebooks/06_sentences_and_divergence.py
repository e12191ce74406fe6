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
# # 6 · Sentences, and where two models part
#
# DASD keeps, of several answers of a teacher, the one from which the student has most to learn. Which one that is, it reads off the
# answers' sentences: those that the teacher finds likely and the student does not. This notebook does it on the shipped candidates
# (SmolLM2-135M-Instruct's answers to sums whose result is known) and on what the pocket student said of them before it was trained on
# any.
#
# 1. an answer, cut into sentences;
# 2. two models' probabilities of a sentence, from tokens of either one;
# 3. types of sentences, and what β does;
# 4. what eight rules keep of the same answers: length, or divergence?
# 5. sharp and varied answers: two temperatures;
# 6. right and wrong answers.
#
# Everything is the lab's own code (`dante/text/sentences.py`, `dante/select`).

# %%
from html import escape
from pathlib import Path

import numpy as np
from IPython.display import HTML, Image, display

from dante.cache import read_records
from dante.cache.records.record import prompt_hash
from dante.cache.shipped import CANDIDATES
from dante.look.theme import LIGHT, panel, png
from dante.select.choices import compared, response_probability
from dante.select.choose import both_sides, candidates, read
from dante.select.labels import BEFORE, GRID, Type, automatic_beta, before_training, shares
from dante.select.likelihood.files import LikelihoodFiles
from dante.select.positions import Typed, curves
from dante.select.selectors.grape import Grape
from dante.select.selectors.longest import Longest
from dante.select.selectors.longest_matched import LongestMatched
from dante.select.selectors.max_teacher_sentences import MaxTeacherSentences
from dante.select.selectors.min_count import MinCount
from dante.select.selectors.random import Random
from dante.select.selectors.ratio import Ratio
from dante.select.selectors.rsr import Rsr
from dante.select.sentence_scores import sentence_scores

PURPLE, MAGENTA, OLIVE, RED, TEAL = LIGHT.cycle
GREEN, ORANGE = LIGHT.models["teacher"], LIGHT.models["init"]
BETA = 0.1

# %% [markdown]
# ## 1 · An answer, cut into sentences
#
# The student's side of the answers to some prompts lies in `data/` (two numbers per token, made by the recipe's step `likelihood`), so
# that nothing has to be run here.

# %%
sides = LikelihoodFiles(Path("data/candidates"))
scored = {row.identity: row for row in sides.rows(sides.manifest["batches"])}
records = [record for record in read_records(CANDIDATES, "train") if record.id in scored]
likelihoods = [scored[record.id] for record in records]
print(f"{len(records)} answers to {len({prompt_hash(record.prompt) for record in records})} prompts")

answers = [read(record, likelihood) for record, likelihood in zip(records, likelihoods, strict=True)]
shown = max(answers[:64], key=lambda one: len(one.spans))
print("asked:", shown.record.prompt, "\n")
for start, end in shown.spans:
    print(repr(shown.record.teacher_text[start:end]))

# %% [markdown]
# Every character belongs to exactly one sentence, so nothing is counted twice or lost. Lines of code, items of a list and formulas are
# sentences, too.
#
# ## 2 · Two models' probabilities of a sentence
#
# A model sees tokens. A token belongs to the sentence in which it *ends*, by its place in the bytes of the text; then each sentence has a
# sum of log-probabilities, and the sums add up to the answer's. The probability of a sentence is the geometric mean over its tokens,
# `p = exp(mean log p)`: models with different tokenizers can be compared.

# %%
record, likelihood = shown.record, scored[shown.record.id]
teacher = sentence_scores(record.teacher_text, shown.spans, record.token_ends or [], record.token_logprobs or [])
total = float(np.sum(record.token_logprobs or [0.0]))
print(f"sum over sentences {teacher.logprob.sum():.4f}, sum over tokens {total:.4f}")
print("tokens per sentence:", teacher.tokens.tolist())
print("teacher:", np.round(shown.teacher, 2).tolist())
print("student:", np.round(shown.student, 2).tolist())

# %% [markdown]
# Why the difference `p_T − p_S` and no ratio? A ratio is large where both find a sentence impossible. And why per sentence? One number for
# the whole answer hides where the two part.
#
# ## 3 · Types of sentences

# %%
PAPER = {Type.TEACHER: "#bfe3d3", Type.STUDENT: "#f6d2a8", Type.COMMON: "#eceff2", Type.NONE: "#ffffff"}


def coloured(one, beta=BETA):
    """An answer with its sentences in the colours of their types."""
    pieces = []
    types = before_training(one.teacher, one.student, beta)
    for (start, end), kind, p_teacher, p_student in zip(one.spans, types, one.teacher, one.student, strict=True):
        text = escape(one.record.teacher_text[start:end]).replace("\n", "<br>")
        numbers = f"<sup>{p_teacher:.2f} {p_student:.2f}</sup>"
        pieces.append(f'<span style="background:{PAPER[Type(kind)]};color:#14181f">{text}{numbers}</span>')
    legend = " ".join(
        f'<span style="background:{PAPER[kind]};color:#14181f">&nbsp;{kind.word}&nbsp;</span>' for kind in BEFORE
    )
    return HTML(f"<p>{legend}</p><p style='line-height:1.9'>{''.join(pieces)}</p>")


display(coloured(shown))

# %% [markdown]
# The two small numbers are the teacher's and the student's. β says how far apart they have to be:

# %%
both = both_sides(answers)
for beta in GRID:
    print(
        f"β = {beta:<4}  "
        + "  ".join(f"{name} {share:5.1%}" for name, share in shares(before_training(*both, beta), BEFORE).items())
    )
print(f"β that divides |p_T − p_S| best in two: {automatic_beta(*both):.3f}")

axes = panel(LIGHT, "How far apart teacher and student are, sentence by sentence", "p_T − p_S", "sentences")
gaps = both[0] - both[1]
axes.hist(gaps[~np.isnan(gaps)], bins=60, range=(-1, 1), color=PURPLE, alpha=0.85)
for edge in (-BETA, BETA):
    axes.axvline(edge, color=LIGHT.ink, linewidth=1)
display(Image(png(axes)))

# %% [markdown]
# ## 4 · What eight rules keep
#
# The default keeps the answer with the most teacher sentences. A longer answer has more of any kind, so `longest` and `longest_matched`
# (any answer that is as long as the default's choice) stand beside it. Here of the answers at T = 1.

# %%
RULES = {
    "random": Random(), "longest": Longest(), "longest_matched": LongestMatched(MaxTeacherSentences(), 0.15),
    "max_teacher_sentences": MaxTeacherSentences(), "ratio": Ratio(), "min_count": MinCount(), "grape": Grape(), "rsr": Rsr(100),
}  # fmt: skip
groups = candidates(answers, likelihoods, BETA)
varied = [kept for group in groups if (kept := [one for one in group if one.record.temperature == 1.0])]
kept = compared(varied, RULES, seed=0)
print(f"{'':24}{'tokens':>8}{'teacher':>9}{'share':>8}{'right':>8}{'p':>8}{'shift':>8}")
for name, facts in kept.items():
    share = facts["teacher_sentences"] / facts["sentences"]
    print(f"{name:24}{facts['tokens']:8.0f}{facts['teacher_sentences']:9.2f}{share:8.1%}{facts['right']:8.1%}"
          f"{facts['probability']:8.3f}{facts['shift']:8.3f}")  # fmt: skip

# %% [markdown]
# `teacher`: teacher sentences per answer; `p`: response probability under the teacher; `shift`: the largest distance between its
# distribution and that of all candidates. The paper's Figure 10 says that its rule leaves that distribution where it was.

# %%
axes = panel(LIGHT, "Response probabilities under three rules", "response probability under the teacher", "density")
for name, colour, width in (
    ("all", LIGHT.muted, 3.2),
    ("random", MAGENTA, 1.8),
    ("max_teacher_sentences", PURPLE, 1.8),
):
    counts = np.array(kept[name]["histogram"], dtype=float)
    smooth = np.convolve(counts, np.array([1, 4, 6, 4, 1]) / 16, mode="same") / counts.sum() * len(counts)
    axes.plot((np.arange(len(counts)) + 0.5) / len(counts), smooth, color=colour, linewidth=width, label=name)
axes.legend(frameon=False, labelcolor=LIGHT.ink, fontsize=8)
display(Image(png(axes)))

# %% [markdown]
# ## 5 · Two temperatures
#
# At a lower temperature the teacher says what it finds likeliest; at T = 1 it says what it believes in the proportions in which it
# believes it. DASD takes the sharp answers first. (The paper's Figure 3.)

# %%
axes = panel(LIGHT, "Answers at T = 0.6 are sharper than at T = 1", "response probability under the teacher", "answers")
for temperature, colour in ((0.6, TEAL), (1.0, RED)):
    group = [one for group in groups for one in group if one.record.temperature == temperature]
    values = [response_probability(one) for one in group]
    right = np.mean([one.record.correct for one in group])
    print(f"T = {temperature}: {len(values)} answers, mean {np.mean(values):.3f}, {right:.1%} right")
    axes.hist(values, bins=40, range=(0, 1), color=colour, alpha=0.6, label=f"T = {temperature}")
axes.legend(frameon=False, labelcolor=LIGHT.ink, fontsize=8)
display(Image(png(axes)))

# %% [markdown]
# ## 6 · Right and wrong answers
#
# For each position in an answer: which share of the sentences there are the teacher's, over right and over wrong answers? The area between
# the two curves says whether teacher sentences go with being right (the paper's Figure 6, there with four types after training). Its
# interval comes from resampling prompts. Of one temperature alone: sharp answers are right more often *and* likelier.

# %%
sharp = [one for one in answers if one.record.temperature == 0.6]
typed = [
    Typed(prompt_hash(one.record.prompt), bool(one.record.correct), before_training(one.teacher, one.student, 0.3))
    for one in sharp
]
found = curves(typed, Type.TEACHER, resamples=500, confidence=0.95, seed=0)
assert found is not None
print(f"area {found.area:+.1f} points ({found.low:+.1f} to {found.high:+.1f}) over {len(found.right)} positions")
axes = panel(
    LIGHT, f"Teacher sentences along an answer: area {found.area:+.1f} points", "sentence of the answer", "share"
)
places = np.arange(1, len(found.right) + 1)
axes.plot(places, found.right, color=GREEN, marker="o", label="right answers")
axes.plot(places, found.wrong, color=ORANGE, marker="o", label="wrong answers")
axes.set_ylim(0, 1.03)
axes.legend(frameon=False, labelcolor=LIGHT.ink, fontsize=8)
display(Image(png(axes)))

# %% [markdown]
# Read the curves with care: a wrong answer may be longer or shorter, so that late positions hold other answers than early ones. Whether a
# rule makes a better student is not read off any of these pictures: that is `python train.py +sweep=dasd`, and what it found stands in
# `experiments/dasd`.
