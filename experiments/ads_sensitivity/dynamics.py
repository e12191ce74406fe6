"""Finished sweep → dynamics.png and dynamics.md: `dynamics.py runs/ads_sensitivity-pocket`, after `fill`.

What the multiplier and the constraint did at every point: curves of all seeds, means over them.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dante.experiments.findings import publish, runs_by_arm
from dante.experiments.schema import read_results
from dante.look.theme import LIGHT, grid, png
from dante.system.files import read_json
from dante.system.jsonl import read_lines

HERE = Path(__file__).parent
NAME = "dual_penalty"
LAST = 8
HEADER = """\
| point | λ, mean | λ, highest | g ≤ 0, share of steps | ε₀ | ε / ε₀ | excess / ε₀ | difficult | entropy, nats | ECE |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"""
Rows = list[dict[str, Any]]


def constrained(run: Path) -> Rows:
    """The logged steps in which there is a constraint."""
    return [row for row in read_lines(run / "fit" / "metrics.jsonl") if row[f"{NAME}/threshold"] is not None]


def initial_bound(run: Path) -> float:
    """ε₀, as it was measured."""
    return float(read_json(run / "fit" / "summary.json")["losses"][NAME]["initial_bound"])


def series(rows: Rows, metric: str) -> np.ndarray:
    """A metric of the loss over the steps."""
    return np.array([row[f"{NAME}/{metric}"] for row in rows])


def draw(points: dict[str, list[Rows]]) -> Axes:
    """λ of every point over the steps."""
    columns = 3
    every = grid(LIGHT, "The multiplier λ at nine points", -(-len(points) // columns), columns, (6.6, 4.6))
    for place, (axes, (name, runs)) in enumerate(zip(every, points.items(), strict=False)):
        axes.set_title(name, loc="left", color=LIGHT.muted, fontsize=8.5, pad=4)
        for rows in runs:
            steps = [row["step"] for row in rows]
            axes.plot(steps, series(rows, "multiplier"), color=LIGHT.cycle[0], linewidth=1.4)
        if place >= len(points) - columns:
            axes.set_xlabel("optimizer step", color=LIGHT.muted, fontsize=9)
    return every[0]


def line(name: str, runs: list[Rows], initial_bounds: list[float], arm: Mapping[str, Mapping[int, float]]) -> str:
    """One row of the table; what the constraint is at the end is a mean over the last steps."""
    unit = float(np.mean(initial_bounds))

    def end(metric: str) -> float:
        return float(np.mean([series(rows, metric)[-LAST:].mean() for rows in runs]))

    def heldout(metric: str) -> float:
        return float(np.mean(list(arm[f"heldout {metric}"].values())))

    multiplier, violation = (np.concatenate([series(rows, m) for rows in runs]) for m in ("multiplier", "violation"))
    return (
        f"| {name} | {multiplier.mean():.2f} | {multiplier.max():.1f} | {(violation <= 0).mean():.0%} "
        f"| {unit:.4f} | {end('bound') / unit:.2f} | {end('excess') / unit:.2f} "
        f"| {end('difficult_share'):.0%} | {heldout('entropy_nats'):.3f} | {heldout('ece'):.3f} |\n"
    )


def main() -> int:
    runs = runs_by_arm(sys.argv[1:])
    points = {name: [constrained(run) for run in found] for name, found in runs.items()}
    arms = read_results(HERE / "results.json").arms
    lines = [line(name, points[name], [initial_bound(run) for run in runs[name]], arms[name]) for name in points]
    publish(HERE, {"dynamics.md": HEADER + "".join(lines), "dynamics.png": png(draw(points))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
