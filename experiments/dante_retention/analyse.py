"""Runs → results.json, config.yaml, table.md and effects.png: `python experiments/dante_retention/analyse.py`."""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dante.experiments.configuration import configuration
from dante.experiments.findings import publish
from dante.experiments.new import write_configuration, write_results
from dante.experiments.runs import made_with, read_config, wall_s
from dante.experiments.schema import Difference, Results
from dante.look.theme import png
from dante.report.evaluation import parts
from dante.report.figures.effects import forest
from dante.statistics.bootstrap import seeds_difference
from dante.statistics.ratio import Ratio
from dante.system.jsonl import read_lines

HERE = Path(__file__).parent
RUNS = HERE.parents[1] / "runs"
ARMS, RATES, SEEDS = ("off", "calibrated", "card"), ("2e-4", "1e-3"), (1, 2, 3)
# What is looked at: suite of the evaluation, and which slice of it.
TEXTS = {
    "ten languages": ("retention", "language"),
    "four programming languages": ("retention", "code"),
    "held-out answers": ("heldout", None),
}
RESAMPLES, CONFIDENCE = 10_000, 0.95


def run_of(rate: str, arm: str, seed: int) -> Path:
    """Directory of one run."""
    return RUNS / f"retention-{arm}-lr{rate}-s{seed}"


def measured(rate: str, arm: str, seed: int, texts: str, model: str = "student") -> Ratio | None:
    """Bits per byte of one run on one kind of text; None where the run is missing."""
    suite, part = TEXTS[texts]
    items = read_lines(run_of(rate, arm, seed) / "eval" / suite / "items.jsonl")
    chosen = sorted((item for item in items if part is None or part in item["slices"]), key=lambda item: item["id"])
    if not chosen:
        return None
    bits, size = np.array(parts(chosen, model, "bits_per_byte"), dtype=np.float64).T
    return Ratio(bits, size)


def main() -> int:
    values: dict[str, dict[str, dict[int, float]]] = {}
    used: dict[str, dict[int, Path]] = {}
    effects, differences, before = {}, [], {}
    for rate in RATES:
        for texts in TEXTS:
            runs = {arm: [measured(rate, arm, seed, texts) for seed in SEEDS] for arm in ARMS}
            complete = [i for i in range(len(SEEDS)) if all(runs[arm][i] is not None for arm in ARMS)]
            if not complete:
                continue
            found = {arm: [one for i in complete if (one := runs[arm][i]) is not None] for arm in ARMS}
            start = measured(rate, "off", SEEDS[complete[0]], texts, "init")
            assert start is not None
            before[texts] = start.value
            for arm in ARMS:
                by_seed = {SEEDS[i]: one.value for i, one in zip(complete, found[arm], strict=True)}
                values.setdefault(f"{arm}, lr {rate}", {})[texts] = by_seed
                used[f"{arm}, lr {rate}"] = {seed: run_of(rate, arm, seed) for seed in by_seed}
            for arm in ARMS[1:]:
                effect = seeds_difference(found[arm], found["off"], resamples=RESAMPLES, confidence=CONFIDENCE, seed=0)
                name, pair = f"{arm} − off, lr {rate}, {texts}", (f"{arm}, lr {rate}", f"off, lr {rate}")
                effects[name] = effect
                differences.append(Difference(name=name, metric=texts, arms=pair, **asdict(effect)))
    if not effects:
        print(f"no runs below {RUNS}: bash experiments/dante_retention/run.sh", file=sys.stderr)
        return 1
    lines = ["| lr | TEA | " + " | ".join(TEXTS) + " | seeds |", "|---|---|" + "--:|" * (len(TEXTS) + 1)]
    lines.append("| | before training | " + " | ".join(f"{before[texts]:.4f}" for texts in TEXTS) + " | |")
    for name, row in values.items():
        arm, rate = name.split(", lr ")
        means = {texts: np.mean(list(row[texts].values())) for texts in TEXTS}
        cells = " | ".join(f"{means[texts]:.4f} ({means[texts] - before[texts]:+.4f})" for texts in TEXTS)
        lines.append(f"| {rate} | {arm} | {cells} | {len(next(iter(row.values())))} |")
    lines += ["", "| difference in bits per byte | | 95 % interval |", "|---|--:|--:|"]
    lines += [
        f"| {n} | {effect.difference:+.4f} | {effect.low:+.4f} to {effect.high:+.4f} |" for n, effect in effects.items()
    ]
    table = "\n".join(lines) + "\n"
    every = [run for by_seed in used.values() for run in by_seed.values()]
    results = Results(
        experiment=HERE.name,
        made_with=made_with(every),
        wall_s=wall_s(every),
        references={"before training": before},
        arms=values,
        differences=differences,
    )
    configs = {arm: {seed: read_config(run) for seed, run in by_seed.items()} for arm, by_seed in used.items()}
    write_results(HERE / "results.json", results)
    write_configuration(HERE / "config.yaml", configuration(configs, "recorded"))
    axes = forest(effects, "What the anchor changes", "difference in bits per byte (left of zero: better)")
    publish(HERE, {"table.md": table, "effects.png": png(axes)}, before=("results.json", "config.yaml"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
