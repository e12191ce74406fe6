"""Finished sweeps → gains.md: every arm against the student before it was trained, `gains.py runs/coder-pocket`.

Intervals are over seeds and items, paired by item; p-values are those of single comparisons.
"""

import sys
from dataclasses import replace
from pathlib import Path

from measures import MEASURES

from dante.experiments.findings import CONFIDENCE, publish, runs_by_arm, scored
from dante.experiments.runs import read_config
from dante.statistics.crossed import compare_ratios

HERE = Path(__file__).parent


def main(sweeps: list[str]) -> None:
    lines = ["| arm | metric | before | after | difference | 95 % interval |", "|---|---|--:|--:|--:|--:|"]
    for arm, runs in runs_by_arm(sweeps).items():
        for measure in MEASURES:
            seeds = {int(read_config(run)["seed"]): run for run in runs}
            after = {seed: ratio for seed, run in seeds.items() if (ratio := scored(run, measure)) is not None}
            before = {seed: ratio for seed in after if (ratio := scored(seeds[seed], replace(measure, model="init")))}
            if not after or not before:
                continue
            effect = compare_ratios(after, before, confidence=CONFIDENCE)
            first = next(iter(before.values())).value
            lines.append(
                f"| {arm} | {measure.words} | {first:.3f} | {first + effect.difference:.3f} | "
                f"{effect.difference:+.3f} | {effect.low:+.3f} to {effect.high:+.3f} |"
            )
    publish(HERE, {"gains.md": "\n".join(lines) + "\n"})


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
