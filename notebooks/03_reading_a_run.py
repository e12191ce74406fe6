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
# # 3 · Reading a run
#
# A run is a directory of files, and every number of its report stands in one of them. This notebook reads them with pandas and
# draws a few of them with matplotlib, so that you can ask what the report does not. It runs no model.
#
# The files are those of one real run of the README's first command (two AVX2 cores, fp32), and of a small comparison: six runs at
# smoke scale, two methods with three seeds each. Set `RUN` and `COMPARISON` to directories of your own, and run the cells again.

# %%
import json
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Image

from dante.look.theme import LIGHT, panel, png
from dante.statistics.bootstrap import paired_difference
from dante.statistics.ratio import Ratio

RUN = Path("data/run")
COMPARISON = Path("data/comparison")


def lines(path):
    """A `.jsonl` file as a list of dictionaries."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def show(axes, width=620):
    """A figure in the look of the lab's reports."""
    return Image(png(axes), width=width)


# %% [markdown]
# ## 3.1 What a run is made of
#
# `manifest.json` lists its steps: each a directory that only later steps read, named by a fingerprint of its settings and inputs.
# Two runs with one fingerprint share the directory.

# %%
manifest = json.loads((RUN / "manifest.json").read_text())
steps = pd.DataFrame(manifest["steps"]).T[["stage", "fingerprint", "wall_s"]]
steps["reads"] = [", ".join(step["inputs"].values()) for step in manifest["steps"].values()]
print(steps[["stage", "fingerprint", "reads"]].to_string())

# %% [markdown]
# ## 3.2 The fit, step by step
#
# `fit/metrics.jsonl` has one line per optimizer step. `ce_nats` is plain cross-entropy, nats per supervised token; `loss/…` is each
# loss before its weight, `weight/…` the weight at that step.

# %%
metrics = pd.DataFrame(lines(RUN / "fit" / "metrics.jsonl")).set_index("step")
print(
    metrics[["ce_nats", "loss/cwce", "weight/cwce", "weight/tea", "lr", "supervised_tokens"]]
    .iloc[[0, 13, 69, 139]]
    .round(5)
    .to_string()
)

# %%
axes = panel(LIGHT, "Cross-entropy falls, and rises at the end", "optimizer step", "nats per supervised token")
axes.plot(metrics.index, metrics["ce_nats"], color=LIGHT.muted, linewidth=0.8)
axes.plot(metrics.index, metrics["ce_nats"].rolling(15, center=True).mean(), color=LIGHT.models["student"], linewidth=2)
axes.set_ylim(0, 6)
show(axes)

# %% [markdown]
# **What one sees.** The curriculum is sorted by the teacher's entropy. Later records are harder, so the loss of a *step* does not say
# how good the student is: that is what held-out answers are for. The grey line is each step, the blue one a mean of fifteen.
#
# ## 3.3 The result, and where it comes from
#
# `eval/eval.json` has a row for every model, task and metric. A slice is a task of its own: `heldout/domain=code`.

# %%
evaluation = json.loads((RUN / "eval" / "eval.json").read_text())
rows = pd.DataFrame(evaluation["rows"])
main = rows[rows["task"] == "heldout"].pivot(index="metric", columns="model", values="value")
print(main[["teacher", "student", "init", "trigram", "unigram"]].round(3).to_string(na_rep=""))

# %% [markdown]
# Every row but a few (a calibration error is no ratio) follows from **items**: `eval/SUITE/items.jsonl` holds, per item and model, a
# numerator and a denominator for each metric. Bits per byte is the ratio of their sums, not a mean of ratios: long answers weigh more.

# %%
items = pd.DataFrame(lines(RUN / "eval" / "heldout" / "items.jsonl"))


def ratio(model, metric="bits_per_byte", chosen=slice(None)):
    """Numerators and denominators of a model over the items."""
    above, below = np.array([models[model][metric] for models in items["models"][chosen]], dtype=float).T
    return Ratio(above, below)


print(f"from {len(items)} items: {ratio('student').value:.6f} ± {ratio('student').stderr:.4f}")
stored = rows.query("model == 'student' and task == 'heldout' and metric == 'bits_per_byte'").iloc[0]
print(f"in eval.json:    {stored['value']:.6f} ± {stored['stderr']:.4f}")

# %% [markdown]
# An interval between two models is a bootstrap over the *same* items, drawn together: what is hard for one is hard for both, and
# that part cancels. The report's interval, by the same function:

# %%
difference = paired_difference(ratio("student"), ratio("init"), resamples=10_000, confidence=0.95, seed=0)
unpaired = np.hypot(ratio("student").stderr, ratio("init").stderr)
print(f"student − initialisation: {difference.difference:.3f} [{difference.low:.3f}, {difference.high:.3f}]")
print(f"standard error: {difference.stderr:.3f} paired, {unpaired:.3f} if the items were not the same")

# %% [markdown]
# Items answer questions that the report does not ask. For example: does the student lose more on long answers?

# %%
size = ratio("student").denominator
bits = pd.DataFrame({model: ratio(model).numerator / size for model in ("teacher", "student", "init")})
quarter = pd.qcut(size, 4, labels=["shortest", "short", "long", "longest"])
print(bits.groupby(quarter, observed=True).mean().round(3).to_string())

# %%
axes = panel(LIGHT, "Each held-out answer", "bytes of the answer", "bits per byte")
for model in ("init", "student", "teacher"):
    axes.scatter(size, bits[model], s=9, color=LIGHT.models[model], linewidth=0, alpha=0.7, label=model)
axes.set_xscale("log")
axes.legend(frameon=False, fontsize=9)
show(axes)

# %% [markdown]
# ## 3.4 What it cost
#
# `fit/summary.json` counts tokens and FLOPs of training, and what the teacher's answers to the records that were drawn took: a method
# that needs more answers must not look cheap.

# %%
summary = json.loads((RUN / "fit" / "summary.json").read_text())
parts = ("training", "generation", "scoring", "total")
cost = pd.DataFrame({part: summary["compute"][part] for part in parts}).T
print(cost.map(lambda value: f"{value:.3g}").to_string())

# %% [markdown]
# ## 3.5 A comparison
#
# `python train.py -m +experiment=dante_mosaic,sft seed=1,2,3` writes `comparison.csv` beside its page: a line per arm and metric,
# with the mean over seeds, the difference from the baseline, its interval over seeds *and* items, and a verdict.

# %%
comparison = pd.read_csv(COMPARISON / "comparison.csv")
columns = ["arm", "task", "metric", "mean", "difference", "low", "high", "verdict"]
shown = comparison[
    (comparison["task"] == "heldout") & comparison["metric"].isin(["bits_per_byte", "top1_accuracy", "ece"])
]
print(shown[columns].round(3).to_string(index=False, na_rep=""))

# %% [markdown]
# Three seeds of a model of a hundred thousand parameters say nothing of DANTE; they show the form. What was measured at pocket scale
# stands in `experiments/`.
