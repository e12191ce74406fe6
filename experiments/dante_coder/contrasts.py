"""Finished sweeps → contrasts.md and a figure per metric: `contrasts.py runs/coder-pocket`, after `fill`."""

import sys
from pathlib import Path

from measures import MEASURES

from dante.experiments.findings import write_contrasts

HERE = Path(__file__).parent
PAIRS = (
    ("dante", "sft"),
    ("no_weighting", "dante"),
    ("no_anchor", "dante"),
    ("no_curriculum", "dante"),
    ("card", "dante"),
    ("alm", "sft"),
)

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write_contrasts(HERE, sys.argv[1:], PAIRS, MEASURES, seeds_needed=True)
