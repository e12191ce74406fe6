"""Finished sweep → dynamics.png and dynamics.md: `dynamics.py runs/ads_sensitivity-pocket`.

What the multiplier and the constraint did at every point: curves of the first seed, numbers of all of them.
"""

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
Rows = list[dict[str, Any]]


def constrained(rows: Rows) -> Rows:
    """The steps in which the bound holds or not."""
    return [row for row in rows if row[f"{NAME}/threshold"] is not None]


def series(rows: Rows, metric: str) -> np.ndarray:
    """A metric over steps; not a number where it is null."""
    return np.array([np.nan if row[f"{NAME}/{metric}"] is None else row[f"{NAME}/{metric}"] for row in rows])


def draw(points: dict[str, list[Rows]]) -> Axes:
    """λ of every point over the steps."""
    columns = 3
    every = grid(LIGHT, "The multiplier λ at nine points", -(-len(points) // columns), columns, (6.6, 4.6))
    for place, (axes, (name, runs)) in enumerate(zip(every, points.items(), strict=False)):
        axes.set_title(name, loc="left", color=LIGHT.muted, fontsize=8.5, pad=4)
        for rows in runs:
            steps = [row["step"] for row in constrained(rows)]
            axes.plot(steps, series(constrained(rows), "multiplier"), color=LIGHT.cycle[0], linewidth=1.4, alpha=0.8)
        if place >= len(points) - columns:
            axes.set_xlabel("optimizer step", color=LIGHT.muted, fontsize=9)
    return every[0]


def main() -> int:
    points: dict[str, list[Rows]] = {}
    for point in find([Path(path) for path in sys.argv[1:]]).points:
        points.setdefault(str(point.arm), []).append(read_lines(point.path / "fit" / "metrics.jsonl"))
    lines = [
        "| point | λ, mean | λ, highest | steps with g ≤ 0 | excess / ε, last 8 steps | difficult | of them right |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, runs in points.items():
        own = [constrained(rows) for rows in runs]
        multiplier = np.concatenate([series(rows, "multiplier") for rows in own])
        holds = np.concatenate([series(rows, "violation") <= 0 for rows in own])
        last = np.concatenate([series(rows[-8:], "excess") / series(rows[-8:], "bound") for rows in own])
        share = np.concatenate([series(rows[-8:], "difficult_share") for rows in own])
        right = np.concatenate([series(rows[-8:], "difficult_accuracy") for rows in own])
        lines.append(
            f"| {name} | {multiplier.mean():.2f} | {multiplier.max():.2f} | {holds.mean():.0%} | {last.mean():.2f} "
            f"| {share.mean():.0%} | {np.nanmean(right):.0%} |"
        )
    table = "\n".join(lines) + "\n"
    (HERE / "dynamics.md").write_text(table, encoding="utf-8")
    (HERE / "dynamics.png").write_bytes(png(draw(points)))
    print(table)
    print(f"wrote {HERE / 'dynamics.md'} and dynamics.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
