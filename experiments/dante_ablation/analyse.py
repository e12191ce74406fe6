"""Runs → results.json, table.md and effects.png: `python experiments/dante_ablation/analyse.py`.

A run is its bits per held-out answer. An effect compares two levels of one factor, everything else equal: per seed the
bits of all matching arms are averaged, and the difference is resampled over seeds and answers (`seeds_difference`).
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from choose import chosen_rates, table
from run import ROOT, SEEDS, name_of

from dante.evaluate.bootstrap import PairedDifference, seeds_difference
from dante.evaluate.ratio import Ratio
from dante.jsonl import read_lines
from dante.report.figures.effects import forest
from dante.report.theme import png

HERE = Path(__file__).parent
Arm = tuple[str, str, str]


class Effect(NamedTuple):
    """A difference, and over how many pairs of arms it is a mean."""

    interval: PairedDifference
    pairs: int


RESAMPLES, CONFIDENCE = 10_000, 0.95


def runs(folder: Path) -> dict[Arm, list[Ratio]]:
    """Bits per byte over held-out answers of every arm at its chosen rate, one per seed, items in one order.

    An arm that lacks a seed is left out, and said to be.
    """
    found = {}
    for arm, rate in chosen_rates(folder).items():
        lines = [read_lines(folder / name_of("final", arm, rate, seed) / "eval" / "items.jsonl") for seed in SEEDS]
        if not all(lines):
            print(f"left out: {' '.join(arm)}, which has not been run with every seed")
            continue
        tables = [sorted(one, key=lambda line: line["id"]) for one in lines]
        assert len({tuple(line["text_sha256"] for line in one) for one in tables}) == 1, f"{arm}: other texts"
        found[arm] = [
            Ratio(np.array([i["bits"]["student"] for i in one]), np.array([i["bytes"] for i in one], dtype=np.float64))
            for one in tables
        ]
    return found


def effect(results: dict[Arm, list[Ratio]], changes: dict[str, str], where: Sequence[str] = ()) -> Effect:
    """Arms of which some levels are replaced (`{to: from}`) minus the same arms before, wherever both were run."""

    def before(arm: Arm) -> Arm:
        return tuple(changes.get(level, level) for level in arm)  # type: ignore[return-value]

    after = [arm for arm in results if set(changes) <= set(arm) and set(where) <= set(arm) and before(arm) in results]
    sides = [after, [before(arm) for arm in after]]
    means = [[averaged([results[arm][s] for arm in side]) for s in range(len(SEEDS))] for side in sides]
    interval = seeds_difference(means[0], means[1], resamples=RESAMPLES, confidence=CONFIDENCE, seed=0)
    return Effect(interval, len(after))


def averaged(ratios: Sequence[Ratio]) -> Ratio:
    """Mean bits of several arms on the same answers."""
    return Ratio(np.mean([ratio.numerator for ratio in ratios], axis=0), ratios[0].denominator)


def effects(results: dict[Arm, list[Ratio]]) -> dict[str, Effect]:
    """Every claim of the seed recipe as a difference in bits per byte; below zero it helps."""
    weighting = {"cwce": "ce"}
    plain = {"sorted": "shuffled", "cwce": "ce"}
    return {
        "sorted − shuffled": effect(results, {"sorted": "shuffled"}),
        "CWCE − CE": effect(results, weighting),
        "CWCE − CE, sorted": effect(results, weighting, ["sorted"]),
        "CWCE − CE, shuffled": effect(results, weighting, ["shuffled"]),
        "TEA calibrated − off": effect(results, {"calibrated": "off"}),
        "TEA card − off": effect(results, {"card": "off"}),
        "TEA card − calibrated": effect(results, {"card": "calibrated"}),
        "DANTE − plain fine-tuning": effect(results, plain | {"calibrated": "off"}),
        "the card's DANTE − plain fine-tuning": effect(results, plain | {"card": "off"}),
    }


def markdown(results: dict[Arm, list[Ratio]], found: dict[str, Effect], rates: dict[Arm, str]) -> str:
    """Both tables."""
    lines = ["| curriculum | weighting | TEA | lr | " + " | ".join(f"seed {s}" for s in SEEDS) + " | mean |"]
    lines += ["|---|---|---|--:|" + "--:|" * (len(SEEDS) + 1)]
    for arm in sorted(results, key=lambda arm: np.mean([r.value for r in results[arm]])):
        values = [ratio.value for ratio in results[arm]]
        shown = " | ".join(f"{value:.4f}" for value in values)
        lines.append(f"| {' | '.join(arm)} | {rates[arm]} | {shown} | {np.mean(values):.4f} |")
    lines += ["", "| difference in bits per byte | | 95 % interval | pairs of arms |", "|---|--:|--:|--:|"]
    for name, (one, pairs) in found.items():
        lines.append(f"| {name} | {one.difference:+.4f} | {one.low:+.4f} to {one.high:+.4f} | {pairs} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    folder = ROOT / "runs"
    rates, results = chosen_rates(folder), runs(folder)
    found = effects(results)
    written = {
        "validation_bits_per_byte": {"-".join(arm): values for arm, values in table(folder).items()},
        "arms": {
            "-".join(arm): {"lr": rates[arm], "bits_per_byte": [r.value for r in results[arm]], "seeds": list(SEEDS)}
            for arm in results
        },
        "effects": {name: asdict(one) | {"pairs": pairs} for name, (one, pairs) in found.items()},
    }
    (HERE / "results.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    (HERE / "table.md").write_text(markdown(results, found, rates), encoding="utf-8")
    intervals = {name: one.interval for name, one in found.items()}
    axes = forest(intervals, "What each part of DANTE changes", "difference in bits per byte (left of zero: better)")
    (HERE / "effects.png").write_bytes(png(axes))
    print(markdown(results, found, rates))
    print(f"wrote {HERE / 'results.json'}, table.md and effects.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
