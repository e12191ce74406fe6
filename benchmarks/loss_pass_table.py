"""Tables and the plot of `loss_pass.py`."""

from typing import Any

from matplotlib.axes import Axes
from measuring import GIB, MIB, cell, in_words

from dante.look.theme import LIGHT, panels, png

WORDS = {
    "gemm": "bare matrix products",
    "ours": "ours",
    "naive": "whole logits, fp32 cross-entropy",
    "torch": "torch's F.linear_cross_entropy",
    "trl": "TRL chunked",
    "liger": "Liger fused",
    "cut": "cut cross-entropy",
}
KL_WORDS = {
    "gemm": "bare matrix products, the teacher's among them",
    "ours_kl": "ours",
    "naive_kl": "whole logits of both, fp32",
    "trl_kl": "TRL chunked divergence",
}
COLOURS = dict(zip(WORDS, ("", *LIGHT.cycle, LIGHT.ink), strict=True))
RETAINED_LIMIT, TIME_LIMIT = 0.05, 1.35


def kl_table(result: dict[str, Any]) -> str:
    """Conditions and table of the forward KL from a live teacher, and ours against every other way."""
    (run,) = result["runs"]
    settings, ways = result["settings"], run["ways"]
    logits_bytes = settings["tokens"] * run["vocab"] * 4
    lines = [
        "| way | s, forward + backward | × bare products | retained / (tokens × vocab × 4) "
        "| with the head's gradient | peak beyond inputs and gradients, GiB |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for way, found in ways.items():
        ratio = _over(found, ways["gemm"], "seconds") if "gemm" in ways else "–"
        memory = " – | – | – |"
        if way != "gemm":
            kept = found["retained_bytes"]["median"]
            both = (kept + found["retained_head_bytes"]["median"]) / logits_bytes
            peak = cell({k: v / GIB for k, v in found["beyond_bytes"].items()}, 2)
            memory = f" {kept / logits_bytes:.3f} | {both:.3f} | {peak} |"
        lines.append(f"| {KL_WORDS[way]} | {cell(found['seconds'], 2)} | {ratio} |{memory}")
    lines += ["", "| ours against | s | by processor time | peak beyond | target |", "|---|--:|--:|--:|---|"]
    for way, found in ways.items():
        if way in ("gemm", "ours_kl") or "ours_kl" not in ways:
            continue
        ratios = (_over(ways["ours_kl"], found, key) for key in ("seconds", "processor_s", "beyond_bytes"))
        lines.append(f"| {KL_WORDS[way]} | {' | '.join(ratios)} | {'at most 1' if way == 'trl_kl' else '–'} |")
    note = (
        f"Retained is what autograd keeps for backward of teacher and student together, inputs and what has the head's "
        f"own shape aside (target of ours: at most {RETAINED_LIMIT:g}). The head's gradient, which every way ends "
        f"with, ours makes in the forward and keeps."
    )
    return f"{_conditions(result, run['vocab'])}\n\n" + "\n".join(lines) + f"\n\n{note}{_left_out(run, KL_WORDS)}"


def _over(a: dict[str, Any], b: dict[str, Any], key: str) -> str:
    return f"{a[key]['median'] / b[key]['median']:.2f}"


def _left_out(run: dict[str, Any], words: dict[str, str]) -> str:
    return "".join(f" {words[way]} left out: {reason}." for way, reason in run["left_out"].items())


def markdown(result: dict[str, Any]) -> str:
    """Conditions and table of one size."""
    (run,) = result["runs"]
    settings, ways = result["settings"], run["ways"]
    logits_bytes = settings["tokens"] * run["vocab"] * 4
    lines = [
        "| way | s, forward + backward | × bare products | kept for backward / fp32 logits | peak beyond inputs and "
        "gradients, GiB |",
        "|---|--:|--:|--:|--:|",
    ]
    for way, found in ways.items():
        ratio = f"{found['seconds']['median'] / ways['gemm']['seconds']['median']:.2f}" if "gemm" in ways else "–"
        memory = " – | – |"
        if way != "gemm":
            share = found["retained_bytes"]["median"] / logits_bytes
            memory = f" {share:.3f} | {cell({k: v / GIB for k, v in found['beyond_bytes'].items()}, 2)} |"
        lines.append(f"| {WORDS[way]} | {cell(found['seconds'], 2)} | {ratio} |{memory}")
    targets = f"Targets of ours: at most {TIME_LIMIT:g} × the bare products, at most {RETAINED_LIMIT:g} of the logits."
    head = "Kept bytes of the LM head's own shape (its gradient, or its bf16 copy) are not counted."
    conditions = _conditions(result, run["vocab"])
    return f"{conditions}\n\n" + "\n".join(lines) + f"\n\n{targets} {head}{_left_out(run, WORDS)}"


def sweep_table(result: dict[str, Any]) -> str:
    """Conditions and a table of all vocabularies: seconds and peak memory per way."""
    names = list(dict.fromkeys(way for run in result["runs"] for way in run["ways"]))
    head = [f"{WORDS[way]}: s" for way in names] + [f"{WORDS[way]}: MiB" for way in names if way != "gemm"]
    lines = ["| vocabulary | " + " | ".join(head) + " |", "|--:|" + "--:|" * len(head)]
    for run in result["runs"]:
        cells = [cell(run["ways"][way]["seconds"], 2) if way in run["ways"] else "–" for way in names]
        cells += [_mib(run, way) for way in names if way != "gemm"]
        lines.append(f"| {run['vocab']:,} | " + " | ".join(cells) + " |")
    return f"{_conditions(result, None)} Memory is the peak beyond inputs and gradients.\n\n" + "\n".join(lines)


def _mib(run: dict[str, Any], way: str) -> str:
    return f"{run['ways'][way]['beyond_bytes']['median'] / MIB:,.0f}" if way in run["ways"] else "–"


def _conditions(result: dict[str, Any], vocab: int | None) -> str:
    settings = result["settings"]
    others = [found["others_cores"]["median"] for run in result["runs"] for found in run["ways"].values()]
    size = f"{settings['tokens']:,} tokens × {settings['hidden']:,}" + (f" × {vocab:,} entries" if vocab else "")
    if settings.get("teacher_hidden") is not None:
        size += f", the teacher's hidden states × {settings['teacher_hidden']:,}"
    return (
        f"{in_words(result['machine'], result['machine']['load_after'])}. Other work kept "
        f"{sum(others) / len(others):.2f} cores busy meanwhile. {size}, {settings['precision']}, "
        f"{settings['device']}; medians of {settings['repeats']} (ranges)."
    )


def plot(result: dict[str, Any]) -> bytes:
    """Time and peak memory against the vocabulary's size."""
    settings, runs = result["settings"], result["runs"]
    title = f"Loss pass, {settings['tokens']:,} tokens × {settings['hidden']:,}, {settings['precision']}"
    time, memory = panels(LIGHT, title, "entries of the vocabulary", 2, (5.2, 5.0))
    time.set_ylabel("s, forward + backward", color=LIGHT.muted, fontsize=9)
    memory.set_ylabel("GiB beyond inputs\nand gradients", color=LIGHT.muted, fontsize=9)
    for way in WORDS:
        points = [(run["vocab"], run["ways"][way]) for run in runs if way in run["ways"]]
        if not points:
            continue
        _line(time, way, [(vocab, found["seconds"]) for vocab, found in points], 1.0)
        if way != "gemm":
            _line(memory, way, [(vocab, found["beyond_bytes"]) for vocab, found in points], GIB)
    for axes in (time, memory):
        axes.set_ylim(bottom=0)
    memory.set_xlim(left=0)
    vocabs = [run["vocab"] for run in runs]
    memory.set_xticks(vocabs, [f"{vocab / 1000:.0f} k" for vocab in vocabs])
    time.legend(frameon=False, fontsize=8.5, labelcolor=LIGHT.ink, loc="upper left")
    return png(time)


def _line(axes: Axes, way: str, points: list[tuple[int, dict[str, float]]], unit: float) -> None:
    x = [vocab for vocab, _ in points]
    colour = COLOURS[way] or LIGHT.muted
    style = {"linestyle": "--", "linewidth": 1.3} if way == "gemm" else {"linewidth": 2.4 if way == "ours" else 1.6}
    axes.plot(x, [v["median"] / unit for _, v in points], color=colour, label=WORDS[way], marker="o", ms=3.5, **style)
    axes.fill_between(
        x, [v["min"] / unit for _, v in points], [v["max"] / unit for _, v in points], color=colour, alpha=0.15
    )
