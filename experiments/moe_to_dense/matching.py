"""Finished sweep → matching.md and matching.png: `matching.py runs/moe_to_dense-pocket`.

The units' error over layer matching (NMSE on the steps' own tokens, mean over layers) by arm and seed: how much of
random units' steps a warm start needs to reach their last error, and what the other loss does to this one's measure.
"""

import sys
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from dante.experiments.findings import publish, runs_by_arm
from dante.look.theme import LIGHT, panel, png
from dante.report.figures.training import LAYER
from dante.system.jsonl import read_lines

HERE = Path(__file__).parent
# Steps whose mean is the last error: one step's tokens are easier than another's.
LAST = 3
COLD = "random"


def errors(run: Path) -> Float64[np.ndarray, "steps"]:
    """Mean NMSE of all layers, step by step."""
    steps = [[value for key, value in row.items() if LAYER.match(key)] for row in read_lines(run / "metrics.jsonl")]
    return np.array([np.mean(values) for values in steps if values])


def steps_to(curve: Float64[np.ndarray, "steps"], level: float) -> int | None:
    """The first step, from 1, from which on the error stays at or below a level."""
    above = np.flatnonzero(curve > level)
    first = int(above[-1]) + 2 if len(above) else 1
    return first if first <= len(curve) else None


def main(sweep: str) -> None:
    """Tables and a figure of one sweep."""
    curves = {
        arm: [errors(run / "fit-match") for run in found if (run / "fit-match" / "metrics.jsonl").is_file()]
        for arm, found in runs_by_arm([sweep]).items()
    }
    curves = {arm: by_seed for arm, by_seed in curves.items() if by_seed}
    cold = [float(curve[-LAST:].mean()) for curve in curves[COLD]]
    lines = [
        "| units | steps | first step | last three steps | steps to random's last error |",
        "|---|--:|--:|--:|--:|",
    ]
    for arm, by_seed in curves.items():
        begun, ended = [curve[0] for curve in by_seed], [curve[-LAST:].mean() for curve in by_seed]
        reached = [steps_to(curve, level) for curve, level in zip(by_seed, cold, strict=True)]
        lines.append(
            f"| {arm} | {', '.join(str(len(curve)) for curve in by_seed)} | {_spread(begun)} | {_spread(ended)} | "
            f"{', '.join('never' if step is None else str(step) for step in reached)} |"
        )
    axes = panel(LIGHT, "Error of units over layer matching, by seed", "optimizer step", "NMSE, mean of layers")
    for number, (arm, by_seed) in enumerate(curves.items()):
        for seed, curve in enumerate(by_seed):
            label = arm if seed == 0 else None
            axes.plot(range(1, len(curve) + 1), curve, color=LIGHT.cycle[number % len(LIGHT.cycle)], label=label)
    axes.set_yscale("log")
    axes.legend(frameon=False, labelcolor=LIGHT.ink, fontsize=9)
    publish(HERE, {"matching.md": "\n".join(lines) + "\n", "matching.png": png(axes)})


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.4f} ({', '.join(f'{value:.4f}' for value in values)})"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
