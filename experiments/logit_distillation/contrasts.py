"""Finished sweep → contrasts.md and a figure per metric: `contrasts.py runs/logit_distillation-pocket`, after `fill`.

The sweep's own comparison puts raw text into a table of its own, because it is other train data. What is scored is the
same in all runs, so the pairs that the question is about are judged here: intervals over seeds and items, p-values
corrected (Holm) within each metric.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from dante.experiments.findings import publish, runs_by_arm
from dante.look.theme import LIGHT, panel, png
from dante.report.evaluation import parts
from dante.statistics.correction import holm
from dante.statistics.crossed import Effect, compare_ratios
from dante.statistics.ratio import Ratio
from dante.system.files import read_json
from dante.system.jsonl import read_lines

HERE = Path(__file__).parent
PAIRS = (("raw_kd", "chat_kd"), ("raw_kd", "sft"), ("chat_kd", "sft"), ("drawn", "chat_kd"), ("topk", "chat_kd"))
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Measure:
    """One metric: the suite that has it, its words, and whether less is better."""

    suite: str
    metric: str
    words: str
    less_is_better: bool


MEASURES = (
    Measure("heldout", "kl_nats", "KL to the teacher, nats per token", True),
    Measure("heldout", "bits_per_byte", "bits per byte of held-out answers", True),
    Measure("heldout", "teacher_agreement", "agreement with the teacher", False),
    Measure("generation", "stop_share", "share of answers that end by themselves", False),
    Measure("generation", "loop_share", "share of answers that loop", True),
)


def measured(run: Path, measure: Measure) -> Ratio:
    """A metric of one run over the items that every run has, in one order."""
    items = sorted(read_lines(run / "eval" / measure.suite / "items.jsonl"), key=lambda item: item["id"])
    numerator, denominator = np.array(parts(items, "student", measure.metric), dtype=np.float64).T
    return Ratio(numerator, denominator)


def judged(runs: dict[str, dict[int, Path]], measure: Measure) -> tuple[dict[str, dict[int, Ratio]], list[Effect]]:
    """Every arm's values, and every pair's difference."""
    arms = {arm: {seed: measured(run, measure) for seed, run in by_seed.items()} for arm, by_seed in runs.items()}
    return arms, [compare_ratios(arms[a], arms[b], confidence=CONFIDENCE) for a, b in PAIRS]


def verdict(effect: Effect, corrected: float | None, measure: Measure) -> str:
    """`undecided` where the difference does not hold after correction."""
    if corrected is None or corrected >= 1 - CONFIDENCE:
        return "undecided"
    return "better" if (effect.difference < 0) == measure.less_is_better else "worse"


def draw(axes: Axes, measure: Measure, effects: list[Effect], p: list[float | None]) -> None:
    """Differences of one metric; coloured where they hold after correction."""
    for place, (effect, corrected) in enumerate(zip(reversed(effects), reversed(p), strict=True)):
        colour = LIGHT.verdicts[verdict(effect, corrected, measure)]
        assert effect.low is not None
        assert effect.high is not None
        axes.plot([effect.low, effect.high], [place, place], color=colour, linewidth=2.4, solid_capstyle="round")
        axes.scatter([effect.difference], [place], color=colour, s=34, zorder=3)
    axes.axvline(0, color=LIGHT.ink, linewidth=1)
    axes.set_yticks(range(len(PAIRS)), [f"{a} − {b}" for a, b in reversed(PAIRS)], color=LIGHT.ink, fontsize=9)
    axes.grid(visible=False, axis="y")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    runs = {
        arm: {int(read_json(run / "release" / "release.json")["seed"]): run for run in found}
        for arm, found in runs_by_arm(arguments).items()
    }
    lines = ["| | " + " | ".join(runs) + " |", "|---|" + "--:|" * len(runs)]
    contrasts = ["| difference | metric | | 95 % interval | p, corrected | |", "|---|---|--:|--:|--:|---|"]
    panels = [panel(LIGHT, measure.words, "left of zero: less", size_in=(5.4, 2.2)) for measure in MEASURES]
    for measure, axes in zip(MEASURES, panels, strict=True):
        arms, effects = judged(runs, measure)
        values = {arm: [ratio.value for ratio in by_seed.values()] for arm, by_seed in arms.items()}
        cells = [f"{np.mean(v):.3f} ({', '.join(f'{x:.3f}' for x in v)})" for v in values.values()]
        lines.append(f"| {measure.words} | " + " | ".join(cells) + " |")
        p = holm([effect.p for effect in effects])
        for (a, b), effect, corrected in zip(PAIRS, effects, p, strict=True):
            contrasts.append(
                f"| {a} − {b} | {measure.words} | {effect.difference:+.3f} | {effect.low:+.3f} to {effect.high:+.3f} | "
                f"{corrected:.3g} | {verdict(effect, corrected, measure)} |"
            )
        draw(axes, measure, effects, p)
    text = "\n".join([*lines, "", *contrasts]) + "\n"
    figures = {f"{measure.metric}.png": png(axes) for measure, axes in zip(MEASURES, panels, strict=True)}
    publish(HERE, {"contrasts.md": text, **figures}, before=("results.json", "config.yaml"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
