"""Finished sweep of initialisations → inits.md and a figure per metric: `inits.py runs/moe_inits-pocket`.

Nothing is trained in it. A pair's second arm is what the first is measured against.
"""

import sys
from dataclasses import replace
from pathlib import Path

from dante.experiments.findings import ANSWERS, write_contrasts

HERE = Path(__file__).parent
OTHERS = ("random", "shared_only", "average", "merged", "frequency", "cp", "acp")
VARIANTS = ("do_acp-normalised", "do_acp-marginal", "do_acp-refit", "do_acp-10", "do_acp-4")
PAIRS = (
    *((arm, "do_acp") for arm in (*OTHERS, *VARIANTS)),
    ("acp", "frequency"),
    ("frequency", "cp"),
)
MEASURES = tuple(replace(measure, model="init") for measure in ANSWERS[:3])

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write_contrasts(HERE, sys.argv[1:], PAIRS, MEASURES, name="inits")
