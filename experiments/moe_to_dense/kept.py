"""Pairs of runs → kept.md: `kept.py LIVE KEPT LIVE KEPT …`, one pair per seed, run one after the other.

Layer matching beside the teacher against layer matching on files of the same blocks: whether the curves are equal, and
how much faster a step is; what making the files takes stands beside it.
"""

import sys
from pathlib import Path

import numpy as np

from dante.experiments.findings import publish
from dante.experiments.runs import read_config
from dante.report.figures.training import LAYER
from dante.system.files import STEP_FILE, read_json
from dante.system.jsonl import read_lines

HERE = Path(__file__).parent
# The first steps compile kernels and fill caches.
WARM = 2


def curves(run: Path) -> np.ndarray:
    """NMSE by step and layer."""
    rows = read_lines(run / "fit-match" / "metrics.jsonl")
    return np.array([[row[key] for key in sorted(row) if LAYER.match(key)] for row in rows])


def rate(run: Path) -> float:
    """Median tokens per second of a step."""
    return float(np.median([row["tokens_per_s"] for row in read_lines(run / "fit-match" / "metrics.jsonl")][WARM:]))


def main(runs: list[Path]) -> None:
    """One row per pair."""
    heads = ("seed", "steps", "largest difference of a layer's NMSE", "live, tokens/s", "kept, tokens/s", "ratio")
    lines = [f"| {' | '.join((*heads, 'making the files, s'))} |", "|" + "--:|" * (len(heads) + 1)]
    ratios = []
    for live, kept in zip(runs[::2], runs[1::2], strict=True):
        ours, theirs = curves(live), curves(kept)
        assert read_config(live)["seed"] == read_config(kept)["seed"], f"{live} and {kept} have different seeds"
        away = float(np.abs(ours - theirs).max() / ours.max()) if ours.shape == theirs.shape else float("nan")
        ratios.append(rate(kept) / rate(live))
        made = read_json(kept / "blocks" / STEP_FILE)["wall_s"]
        lines.append(
            f"| {read_config(live)['seed']} | {len(ours)} | {away:.1e} | {rate(live):.0f} | {rate(kept):.0f} | "
            f"{ratios[-1]:.2f} | {made:.0f} |"
        )
    lines += ["", f"Median ratio: {np.median(ratios):.2f}."]
    publish(HERE, {"kept.md": "\n".join(lines) + "\n"})


if __name__ == "__main__":
    if len(sys.argv) < 3 or len(sys.argv) % 2 == 0:
        sys.exit(__doc__)
    main([Path(argument) for argument in sys.argv[1:]])
