"""Finished sweep → dynamics.png and dynamics.md: `dynamics.py runs/ads_sensitivity-pocket`, after `fill`.

What the multiplier and the constraint did at every point: curves of all seeds, means over them.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dante.jsonl import read_lines
from dante.report.comparison.find import find
from dante.report.theme import LIGHT, grid, png

HERE = Path(__file__).parent
NAME = "dual_penalty"
LAST = 8
HEADER = """\
| point | λ, mean | λ, highest | g ≤ 0, share of steps | ε₀ | ε / ε₀ | excess / ε₀ | difficult | entropy, nats | ECE |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"""
Rows = list[dict[str, Any]]


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


def line(name: str, runs: list[Rows], initial_bounds: list[float], arm: dict[str, dict[str, float]]) -> str:
    """One row of the table; what the constraint is at the end is a mean over the last steps."""
    initial_bound = float(np.mean(initial_bounds))

    def end(metric: str) -> float:
        return float(np.mean([series(rows, metric)[-LAST:].mean() for rows in runs]))

    def heldout(metric: str) -> float:
        return float(np.mean(list(arm[f"heldout {metric}"].values())))

    multiplier, violation = (np.concatenate([series(rows, m) for rows in runs]) for m in ("multiplier", "violation"))
    return (
        f"| {name} | {multiplier.mean():.2f} | {multiplier.max():.1f} | {(violation <= 0).mean():.0%} "
        f"| {initial_bound:.4f} | {end('bound') / initial_bound:.2f} | {end('excess') / initial_bound:.2f} "
        f"| {end('difficult_share'):.0%} | {heldout('entropy_nats'):.3f} | {heldout('ece'):.3f} |\n"
    )


def main() -> int:
    points: dict[str, list[Rows]] = {}
    initial_bounds: dict[str, list[float]] = {}
    for point in find([Path(path) for path in sys.argv[1:]]).points:
        fit = point.path / "fit"
        constrained = [row for row in read_lines(fit / "metrics.jsonl") if row[f"{NAME}/threshold"] is not None]
        points.setdefault(str(point.arm), []).append(constrained)
        summary = json.loads((fit / "summary.json").read_text(encoding="utf-8"))
        initial_bounds.setdefault(str(point.arm), []).append(summary["losses"][NAME]["initial_bound"])
    arms = json.loads((HERE / "results.json").read_text(encoding="utf-8"))["arms"]
    table = HEADER + "".join(line(name, runs, initial_bounds[name], arms[name]) for name, runs in points.items())
    (HERE / "dynamics.md").write_text(table, encoding="utf-8")
    (HERE / "dynamics.png").write_bytes(png(draw(points)))
    print(table)
    print(f"wrote {HERE / 'dynamics.md'} and dynamics.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
