"""Finished sweep → contrasts.md and a figure per metric: `contrasts.py runs/logit_distillation-pocket`, after `fill`.

The sweep's own comparison puts raw text into a table of its own, because it is other train data. What is scored is the
same in all runs, so the pairs that the question is about are judged here.
"""

import sys
from pathlib import Path

from dante.experiments.findings import ANSWERS, write_contrasts

HERE = Path(__file__).parent
PAIRS = (("raw_kd", "chat_kd"), ("raw_kd", "sft"), ("chat_kd", "sft"), ("drawn", "chat_kd"), ("topk", "chat_kd"))

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write_contrasts(HERE, sys.argv[1:], PAIRS, ANSWERS)
