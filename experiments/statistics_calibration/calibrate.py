"""How often each way of judging errs, and what it finds: `python experiments/statistics_calibration/calibrate.py`.

Reads the two stored pools (see pool.py), draws comparisons from them, writes results.json, table.md and
calibration.png. Two minutes on one core; every number follows from the seed below.
"""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from scipy import stats

from dante.experiments.findings import publish
from dante.experiments.new import write_configuration, write_results
from dante.experiments.schema import Configuration, Hardware, MadeWith, Results
from dante.look.theme import LIGHT, panels, png
from dante.report.figures.curves import label_ends
from dante.statistics.bootstrap import seeds_difference
from dante.statistics.crossed import compare_ratios, influence
from dante.statistics.ratio import Ratio, mean
from dante.system.environment import environment

HERE = Path(__file__).parent
POOL, POCKET = HERE.parents[1] / "tests" / "fixtures" / "seeds_pool.json", HERE / "pocket.json"
LEVEL, DRAWS, RESAMPLES, SEED = 0.05, 2000, 1000, 0
SEEDS = (1, 2, 3, 5, 10)
SIMULATED, SIMULATED_DRAWS = ((0.0, 0.0), (0.1, 0.0), (0.2, 1.0), (0.3, 1.0), (1.0, 1.0)), 3000
Pair = tuple[list[Ratio], list[Ratio]]
Draw = Callable[[np.random.Generator, float], Pair]


def judged(pair: Pair) -> dict[str, bool]:
    """Whether each way reports a difference."""
    a, b = pair
    one = compare_ratios(dict(enumerate(a)), dict(enumerate(b)), confidence=1 - LEVEL)
    boot = seeds_difference(a, b, resamples=RESAMPLES, confidence=1 - LEVEL, seed=SEED)
    variance, df = one.parts[0]
    crossed = 2 * stats.t.sf(abs(one.difference) / np.sqrt(variance), df)
    return {
        "bootstrap": not boot.low <= 0 <= boot.high,
        "crossed alone": bool(crossed < LEVEL),
        "ours": one.p is not None and one.p < LEVEL,
    }


def rates(draw: Draw, planted: float, draws: int, what: str) -> dict[str, float]:
    """Share of comparisons in which each way reports a difference."""
    rng = np.random.default_rng(SEED)
    found = [judged(draw(rng, planted)) for _ in track(range(draws), what, transient=True)]
    return {way: float(np.mean([one[way] for one in found])) for way in found[0]}


def from_pool(bits: np.ndarray, size: np.ndarray, seeds: int) -> Draw:
    """Two disjoint groups of seeds of one arm, on one resampling of its answers."""

    def draw(rng: np.random.Generator, planted: float) -> Pair:
        runs, answers = rng.permutation(len(bits))[: 2 * seeds], rng.integers(len(size), size=len(size))
        return paired(bits[runs[:seeds]][:, answers], bits[runs[seeds:]][:, answers], size[answers], planted)

    return draw


def from_pocket(bits: np.ndarray, size: np.ndarray, arms: list[str], of: list[int], pairs: int) -> Draw:
    """Pairs of runs of one seed and different arms, each without its arm's mean: what is left is chance.

    Three seeds of an arm cannot be split into two groups of three. But without the mean over its seeds, answer by
    answer, a run is what its seed did to it, times sqrt(2/3), which is undone. A pair shares its seed, as in a
    comparison; no arm is used twice, because the residuals of one arm depend on each other.
    """
    names, seeds = sorted(set(arms)), sorted(set(of))
    cube = np.stack([[bits[[*zip(arms, of, strict=True)].index((arm, seed))] for seed in seeds] for arm in names])
    own = (cube - cube.mean(axis=1, keepdims=True)) * np.sqrt(len(seeds) / (len(seeds) - 1)) + cube.mean(axis=(0, 1))

    def draw(rng: np.random.Generator, planted: float) -> Pair:
        chosen, answers = rng.permutation(len(names))[: 2 * pairs], rng.integers(len(size), size=len(size))
        seed = [index % len(seeds) for index in range(pairs)]
        return paired(
            own[chosen[:pairs], seed][:, answers], own[chosen[pairs:], seed][:, answers], size[answers], planted
        )

    return draw


def simulated(seeds: int, of_seed: float, of_item: float) -> Draw:
    """Differences with a seed's, an answer's and a remaining part of standard deviation 1; 60 answers."""

    def draw(rng: np.random.Generator, planted: float) -> Pair:
        d = planted + rng.normal(size=(seeds, 60)) + of_seed * rng.normal(size=(seeds, 1))
        return [mean(row) for row in d + of_item * rng.normal(size=(1, 60))], [mean(np.zeros(60))] * seeds

    return draw


def paired(a: np.ndarray, b: np.ndarray, size: np.ndarray, planted: float) -> Pair:
    return [Ratio(row + planted * size, size) for row in a], [Ratio(row, size) for row in b]


def spreads(bits: np.ndarray, size: np.ndarray, pairs: Iterable[tuple[int, int]]) -> dict[str, float]:
    """Standard deviations of a difference between two runs, in bits per byte: over answers, and over pairs of seeds."""
    own = influence([Ratio(row, size) for row in bits])
    differences = [own[i] - own[j] for i, j in pairs]
    return {
        "one standard deviation of an answer": float(np.mean([d.std(ddof=1) for d in differences])),
        "one standard deviation between seeds": float(np.sqrt(np.mean([d.mean() ** 2 for d in differences]))),
    }


def main() -> None:
    pool = json.loads(POOL.read_text())
    bits, size = np.array(pool["bits"]), np.array(pool["bytes"], dtype=np.float64)
    planted = spreads(bits, size, [(i, j) for i in range(len(bits)) for j in range(i)])
    found: dict[str, Any] = {"planted": planted}
    found["equal runs, smoke"] = {
        n: rates(from_pool(bits, size, n), 0.0, DRAWS, f"equal runs, {n} seeds") for n in SEEDS
    }
    for name, effect in planted.items():
        found[name] = {n: rates(from_pool(bits, size, n), effect, DRAWS // 4, f"{name}, {n} seeds") for n in SEEDS}
    if POCKET.is_file():
        runs = json.loads(POCKET.read_text())
        bits, size = np.array(runs["bits"]), np.array(runs["bytes"], dtype=np.float64)
        found["equal runs, pocket"] = {
            n: rates(from_pocket(bits, size, runs["arms"], runs["seeds"], n), 0.0, DRAWS, f"pocket, {n} pairs")
            for n in (2, 3, 4)
        }
    found["simulated"] = {
        f"seed {of_seed:g}, answer {of_item:g}": {
            n: rates(simulated(n, of_seed, of_item), 0.0, SIMULATED_DRAWS, "simulated") for n in (2, 3, 5)
        }
        for of_seed, of_item in SIMULATED
    }
    write_results(HERE / "results.json", results(found))
    write_configuration(HERE / "config.yaml", configuration(planted))
    files: dict[str, str | bytes] = {"table.md": markdown(found), "calibration.png": figure(found)}
    publish(HERE, files, before=("results.json", "config.yaml"))


def results(found: dict[str, Any]) -> Results:
    """Rates by way of judging, in the form of an experiment's; the seed is that of the draws."""
    groups = {k: v for k, v in found.items() if k not in ("simulated", "planted")}
    groups |= {f"simulated, {name}": by_seeds for name, by_seeds in found["simulated"].items()}
    arms: dict[str, dict[str, dict[int, float]]] = {}
    for name, by_seeds in groups.items():
        for seeds, ways in by_seeds.items():
            for way, rate in ways.items():
                arms.setdefault(way, {})[f"{name}, {seeds} seeds: reported"] = {SEED: rate}
    here = environment()
    made = MadeWith(
        git=here["git"],
        date=datetime.now(UTC).date().isoformat(),
        python=here["python"],
        packages=here["packages"],
        hardware=Hardware.model_validate(here["hardware"]),
    )
    shown = ["equal runs, smoke, 3 seeds: reported", "one standard deviation of an answer, 3 seeds: reported"]
    return Results(experiment=HERE.name, made_with=made, wall_s=None, arms=arms, differences=[], primary=shown)


def configuration(planted: dict[str, float]) -> Configuration:
    """What all ways of judging share, and how each judges."""
    shared = {"level": LEVEL, "draws": DRAWS, "draws_of_planted_effects": DRAWS // 4, "bootstrap_resamples": RESAMPLES,
              "simulated_draws": SIMULATED_DRAWS, "planted_bits_per_byte": planted}  # fmt: skip
    judge = {"bootstrap": "dante.statistics.bootstrap.seeds_difference", "ours": "dante.statistics.crossed"}
    judge["crossed alone"] = "dante.statistics.crossed, without the test over seeds"
    return Configuration(origin="recorded", shared=shared, arms={way: {"judge": text} for way, text in judge.items()})


def markdown(found: dict[str, Any]) -> str:
    lines = ["| runs | seeds | bootstrap | crossed alone | ours |", "|---|--:|--:|--:|--:|"]
    for name, by_seeds in found.items():
        if isinstance(by_seeds, dict) and name not in ("simulated", "planted"):
            lines += [_line(name, n, ways) for n, ways in by_seeds.items()]
    lines += [_line(f"simulated: {name}", n, ways) for name, by in found["simulated"].items() for n, ways in by.items()]
    return "\n".join(lines) + "\n"


def _line(name: str, seeds: int, ways: dict[str, float]) -> str:
    return f"| {name} | {seeds} | " + " | ".join(f"{100 * rate:.1f}%" for rate in ways.values()) + " |"


def figure(found: dict[str, Any]) -> bytes:
    """Above: equal runs told apart. Below: effects found."""
    title = "What an interval over few seeds is worth"
    above, below = panels(LIGHT, title, "seeds per arm (24 real runs of one arm, 240 answers)", 2, (4.4, 5.0))
    shown = [n for n in SEEDS if n > 1]
    colours = {"bootstrap": LIGHT.cycle[3], "crossed alone": LIGHT.cycle[2], "ours": LIGHT.models["student"]}
    ends = []
    for way, colour in colours.items():
        rate = [100 * found["equal runs, smoke"][n][way] for n in shown]
        above.plot(shown, rate, color=colour, linewidth=2, marker="o", markersize=4)
        ends.append((shown[-1], rate[-1], way, colour))
    above.axhline(100 * LEVEL, color=LIGHT.ink, linewidth=0.9, linestyle=(0, (4, 3)))
    above.set_ylim(0, None)
    label_ends(above, LIGHT, ends)
    above.set_title("equal runs told apart, % (dashed: the 5% promised)", loc="left", color=LIGHT.muted, fontsize=8.5)
    ends = []
    for name, colour in zip(found["planted"], (LIGHT.models["student"], LIGHT.cycle[1]), strict=True):
        rate = [100 * found[name][n]["ours"] for n in shown]
        below.plot(shown, rate, color=colour, linewidth=2, marker="o", markersize=4)
        ends.append((shown[-1], rate[-1], "1 SD of an\nanswer" if "answer" in name else "1 SD between\nseeds", colour))
    below.axhline(80, color=LIGHT.ink, linewidth=0.9, linestyle=(0, (4, 3)))
    below.set_ylim(0, 105)
    below.set_xticks(shown)
    label_ends(below, LIGHT, ends)
    below.set_title("planted effects found by ours, % (dashed: 80%)", loc="left", color=LIGHT.muted, fontsize=8.5)
    return png(above)


if __name__ == "__main__":
    main()
