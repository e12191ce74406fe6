"""The Markdown table of `training.py`."""

import statistics
from typing import Any

from measuring import GIB, cell, in_words

WORDS = {
    "trl_packing": "TRL SFTTrainer, packing (bfd)",
    "trl_tuned": "TRL SFTTrainer, packing (bfd), torch's fp32 products set to bf16",
    "trl_padded": "TRL SFTTrainer, padded rows",
    "trl_shipped": "TRL SFTTrainer, padded rows, its default gradient checkpointing",
    "hf_padded": "HF Trainer, padded rows",
    "ours_ce": "ours, CE",
    "ours_dante": "ours, CWCE + TEA",
    "ours_ads": "ours, CE + dual penalty",
    "ours_rs": "ours, RS-KD from files",
    "ours_topk": "ours, top-K with a tail from files",
    "ours_live_1x": "ours, KL from a live teacher of its size",
    "ours_live_4x": "ours, KL from a live teacher of 4 x its size",
    "ours_live_10x": "ours, KL from a live teacher of 10 x its size",
}
# Peer, what our CE run is compared in, how it must come out.
TARGETS = (
    ("trl_packing", "supervised_tokens_per_s", "at least", 2.0),
    ("trl_padded", "supervised_tokens_per_s", "at least", 2.5),
    ("trl_packing", "beyond_bytes", "at most", 0.7),
    ("trl_padded", "beyond_bytes", "at most", 0.7),
)
# Our recipes: s per step against CE, at most.
STEP_TARGETS = {"ours_dante": 1.03, "ours_ads": 1.03, "ours_rs": 1.10}
# Live teachers: s per step against RS-KD from files, at least; and times the student's size, for the ceiling by FLOPs.
LIVE_TARGETS = {"ours_live_1x": (1.15, 1), "ours_live_4x": (2.0, 4), "ours_live_10x": (3.5, 10)}


def markdown(result: dict[str, Any]) -> str:
    """The whole section: conditions, table, ratios against targets, matrix-product rates."""
    return "\n\n".join([_conditions(result), _table(result), _ratios(result), _products(result)])


def _conditions(result: dict[str, Any]) -> str:
    settings, systems = result["settings"], result["systems"]
    block = next(iter(systems.values()))["blocks"][0]
    parameters = next(iter(systems.values()))["start"]["parameters"]
    disturbed = max(found["others_cores"]["max"] for found in systems.values())
    busy = sum(found["others_cores"]["median"] for found in systems.values()) / len(systems)
    losses = [b["loss_nats"] for found in systems.values() for b in found["blocks"]]
    loss = f"{min(losses):.4f} to {max(losses):.4f} nats"
    precision = {"bf16": "bf16 autocast", "fp32": "fp32"}[settings.get("precision", "bf16")]
    overrides = f" Our config with {' '.join(settings['ours'])}." if settings["ours"] else ""
    overrides += _distillation(result)
    return (
        f"{in_words(result['machine'], result['machine']['load_after'])}. Other work kept {busy:.2f} cores busy while "
        f"blocks were measured (at most {disturbed:.2f}). {parameters / 1e6:.1f} M parameters, fp32 weights, "
        f"{precision}; a block is {settings['records']} records of the pocket cache ({block['tokens']:,} tokens, "
        f"{block['supervised_tokens']:,} supervised); {settings['repeats']} blocks per system, medians (ranges). "
        f"At equal weights the mean loss of every block of every system was {loss}."
        f"{overrides}\n\n`{result['command']}`"
    )


def _distillation(result: dict[str, Any]) -> str:
    """Shapes of student and teachers, and what is kept per token."""
    found, shape = result.get("distillation"), result["settings"].get("student")
    words = f" The student: random weights, {shape[0]} layers, {shape[1]:,} wide." if shape else ""
    if found and found["teachers"]:
        shapes = "; ".join(
            f"{one['parameters'] / 1e6:,.1f} M parameters, {one['layers']} layers, {one['width']:,} wide"
            for one in found["teachers"].values()
        )
        words += f" Live teachers, random weights: {shapes}."
    if found:
        kept = found["kept"]
        words += (
            f" Kept logits are those of the pocket teacher, or of --model: {kept['random_sampling']:.1f} different "
            f"tokens of the draws at a position, or {kept['topk_tail']:.0f} and the tail."
        )
    return words


def _table(result: dict[str, Any]) -> str:
    lines = [
        "| system | supervised tokens/s | tokens/s | s per step | padding | peak GiB | beyond weights, gradients, "
        "optimizer: GiB |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, found in result["systems"].items():
        block = found["blocks"][-1]
        ours = name.startswith("ours")
        lines.append(
            f"| {WORDS[name]} | {cell(found['supervised_tokens_per_s'], 0, ours)} | {cell(found['tokens_per_s'])} "
            f"| {cell(found['s_per_step'], 2)} | {1 - block['tokens'] / block['positions']:.0%} "
            f"| {_gib(found['peak_bytes'])} | {_gib(found['beyond_bytes'], ours)} |"
        )
    return "\n".join(lines)


def _gib(values: dict[str, float], bold: bool = False) -> str:
    return cell({key: value / GIB for key, value in values.items()}, 2, bold)


def _ratios(result: dict[str, Any]) -> str:
    """Our CE run against every peer, recipes against CE: of medians, and the range over pairs of one round."""
    systems = result["systems"]
    lines = [
        "| ratio | value | pairs of one round | by processor time | target |",
        "|---|--:|--:|--:|---|",
    ]
    ours = systems.get("ours_ce")
    for peer, found in systems.items():
        if ours is None or peer.startswith("ours"):
            continue
        for key, what in (("supervised_tokens_per_s", "supervised tokens/s"), ("beyond_bytes", "memory beyond")):
            value = ours[key]["median"] / found[key]["median"]
            target = next((f"{how} {limit:g}" for p, k, how, limit in TARGETS if (p, k) == (peer, key)), "–")
            processor = f"{_processor_s(found) / _processor_s(ours):.2f}" if key == "supervised_tokens_per_s" else "–"
            pairs = _pairs(ours, found, key)
            lines.append(f"| ours, CE / {WORDS[peer]}: {what} | **{value:.2f}** | {pairs} | {processor} | {target} |")
    for name, found in systems.items():
        if ours is None or not name.startswith("ours") or name == "ours_ce":
            continue
        value = found["s_per_step"]["median"] / ours["s_per_step"]["median"]
        pairs = _pairs(found, ours, "s_per_step")
        processor = f"{_processor_s(found) / _processor_s(ours):.3f}"
        target = f"at most {STEP_TARGETS[name]:.2f}" if name in STEP_TARGETS else "–"
        lines.append(f"| {WORDS[name]} / CE: s per step | **{value:.3f}** | {pairs} | {processor} | {target} |")
    return "\n".join([*lines, *_live_ratios(systems)])


def _live_ratios(systems: dict[str, Any]) -> list[str]:
    """What kept logits save: every live teacher against RS-KD."""
    kept, lines = systems.get("ours_rs"), []
    for name, (target, times) in LIVE_TARGETS.items():
        if kept is None or name not in systems:
            continue
        live = systems[name]
        value = live["s_per_step"]["median"] / kept["s_per_step"]["median"]
        # A forward is a third of a training step.
        limit = f"at least {target:.2f}; {1 + times / 3:.2f} by FLOPs"
        processor = f"{_processor_s(live) / _processor_s(kept):.2f}"
        pairs = _pairs(live, kept, "s_per_step")
        lines.append(
            f"| {WORDS[name]} / RS-KD from files: s per step | **{value:.2f}** | {pairs} | {processor} | {limit} |"
        )
    return lines


def _processor_s(found: dict[str, Any]) -> float:
    """Processor time of a block: less disturbed than the clock where other work shares the cores."""
    return statistics.median(block["processor_s"] for block in found["blocks"][1:])


def _pairs(a: dict[str, Any], b: dict[str, Any], key: str) -> str:
    def values(found: dict[str, Any]) -> list[float]:
        state = found["start"]["baseline_bytes"] + 16 * found["start"]["parameters"]
        of = {
            "supervised_tokens_per_s": lambda block: block["supervised_tokens"] / block["seconds"],
            "s_per_step": lambda block: block["seconds"] / block["steps"],
            "beyond_bytes": lambda block: block["peak_bytes"] - state,
        }[key]
        return [of(block) for block in found["blocks"][1:]]

    ratios = [x / y for x, y in zip(values(a), values(b), strict=True)]
    return f"{min(ratios):.2f} – {max(ratios):.2f}"


def _products(result: dict[str, Any]) -> str:
    """Share of the machine's matrix-product rate that each system reaches."""
    rates = result["gemm_flops_per_s"]
    names = list(rates)
    own = [name for name in names if name.startswith(result["settings"].get("precision", "bf16"))]
    lines = [
        "| share of the bare matrix products | " + " | ".join(own) + " |",
        "|---|" + "--:|" * len(own),
        "| GFLOP/s of bare products | " + " | ".join(_gflops(rates[name]) for name in own) + " |",
    ]
    for name, found in result["systems"].items():
        shares = [found["flops_per_s"]["median"] / rates[rate]["median"] for rate in own]
        lines.append(f"| {WORDS[name]} | " + " | ".join(f"{share:.0%}" for share in shares) + " |")
    others = "; ".join(f"{name} {_gflops(rates[name])} GFLOP/s" for name in names if name not in own)
    note = "Useful work is 6 FLOPs per parameter and token, the LM head at supervised positions only (target 60 %)."
    return "\n".join(lines) + f"\n\n{note}" + (f" For comparison: {others}." if others else "")


def _gflops(values: dict[str, float]) -> str:
    return cell({key: value / 1e9 for key, value in values.items()})
