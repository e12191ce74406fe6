"""Finished sweep → contrasts.md and a figure per metric: `contrasts.py runs/moe_to_dense-pocket`, after `fill`.

Students, and the students as they were after layer matching, on the items that all runs were scored on.
"""

import sys
from dataclasses import replace
from pathlib import Path

from dante.experiments.findings import ANSWERS, write_contrasts

HERE = Path(__file__).parent
PAIRS = tuple((arm, "recipe") for arm in ("random", "radlads", "unmatched", "raw"))
MATCHED = tuple(
    replace(measure, words=f"{measure.words}, after layer matching", model="matched") for measure in ANSWERS[:3]
)

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write_contrasts(HERE, sys.argv[1:], PAIRS, (*ANSWERS, *MATCHED))
