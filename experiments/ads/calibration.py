"""Finished sweep → reliability.png and calibration.md: `python experiments/ads/calibration.py runs/ads-pocket`.

Bins of all seeds of an arm are added up: tokens of the same held-out answers, seen by students of several seeds.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dante.experiments.findings import publish, runs_by_arm
from dante.look.theme import LIGHT, panel, png
from dante.report.evaluation import details
from dante.system.files import read_json

HERE = Path(__file__).parent
FEWEST_TOKENS = 50


def pooled(evaluations: list[dict[str, Any]]) -> np.ndarray:
    """[tokens, Σ confidence, Σ correct] per bin over all seeds."""
    sums = np.zeros((3, len(details(evaluations[0], "calibration")["student"]["bins"])))
    for evaluation in evaluations:
        for place, one in enumerate(details(evaluation, "calibration")["student"]["bins"]):
            if one["tokens"]:
                sums[:, place] += one["tokens"] * np.array([1.0, one["confidence"], one["accuracy"]])
    return sums


def value(evaluation: dict[str, Any], task: str, metric: str) -> float:
    """A number of the student; not a number where it was not measured."""
    rows = evaluation["rows"]
    found = [r["value"] for r in rows if (r["model"], r["task"], r["metric"]) == ("student", task, metric)]
    return float(found[0]) if found else float("nan")


def draw(arms: dict[str, np.ndarray]) -> Axes:
    """Confidence against accuracy of every arm."""
    axes = panel(
        LIGHT, "Reliability on held-out answers", "confidence in the most likely token", "share of times it was right",
        size_in=(4.4, 3.6),
    )  # fmt: skip
    axes.plot([0, 1], [0, 1], color=LIGHT.muted, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate("less sure than right", (0.03, 0.93), color=LIGHT.muted, fontsize=8.5)
    for place, (arm, (tokens, confident, right)) in enumerate(arms.items()):
        colour = LIGHT.cycle[place % len(LIGHT.cycle)]
        shown = tokens >= FEWEST_TOKENS
        axes.plot(confident[shown] / tokens[shown], right[shown] / tokens[shown], color=colour, linewidth=1.6,
                  marker="o", markersize=3.5)  # fmt: skip
        axes.annotate(arm, (0.985, 0.06 + 0.075 * place), ha="right", color=colour, fontsize=9.5, fontweight="bold")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    return axes


def main() -> int:
    evaluations = {
        arm: [read_json(run / "eval" / "eval.json") for run in runs] for arm, runs in runs_by_arm(sys.argv[1:]).items()
    }
    arms = {arm: pooled(found) for arm, found in evaluations.items()}
    lines = [
        "| arm | ECE (range of seeds) | confidence − accuracy | entropy, nats | answers that end | that loop |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for arm, found in evaluations.items():
        tokens, confident, right = arms[arm].sum(axis=1)
        ece = [details(one, "calibration")["student"]["ece"] for one in found]
        wanted = (("heldout", "entropy_nats"), ("generation", "stop_share"), ("generation", "loop_share"))
        entropy, stops, loops = (np.mean([value(one, *which) for one in found]) for which in wanted)
        lines.append(
            f"| {arm} | {np.mean(ece):.4f} ({min(ece):.4f} to {max(ece):.4f}) | {(confident - right) / tokens:+.4f} "
            f"| {entropy:.3f} | {stops:.0%} | {loops:.0%} |"
        )
    publish(HERE, {"calibration.md": "\n".join(lines) + "\n", "reliability.png": png(draw(arms))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
