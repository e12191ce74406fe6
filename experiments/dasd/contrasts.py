"""Finished sweep → contrasts.md and a figure per metric: `contrasts.py runs/dasd-pocket`, after `fill`."""

import sys
from pathlib import Path

from dante.experiments.findings import ANSWERS, Measure, write_contrasts

HERE = Path(__file__).parent
PAIRS = (
    *((arm, "random") for arm in ("das", "longest", "longest_matched", "rsr")),
    ("das", "longest_matched"),  # what length does not explain
    ("das", "low"),
    ("das", "high"),
    ("mixed", "das"),
    ("mixed-masked", "mixed"),
)
RIGHT = Measure("generation", "right_share", "share of answers that are right", False)

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write_contrasts(HERE, sys.argv[1:], PAIRS, (*ANSWERS, RIGHT))
