"""One system of `training.py` in a process of its own: `training_child.py SYSTEM JOB_FILE`; started by it alone."""

import importlib
import os
import sys
from functools import partial
from pathlib import Path

from turns import Table


def main() -> int:
    table = Table()  # before anything can print
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    name, path = sys.argv[1:]
    module, function, *arguments = SYSTEMS[name]
    run = getattr(importlib.import_module(module), function)  # imports everything: the baseline comes after it
    import torch
    from training_job import Job, Pace
    from transformers.utils import logging

    from dante.console import quiet_libraries, quiet_lightning

    quiet_libraries()
    quiet_lightning()
    logging.disable_progress_bar()

    job = Job.read(Path(path))
    torch.set_num_threads(job.threads)
    partial(run, job, Pace(table))(*arguments)
    return 0


SYSTEMS = {
    "trl_packing": ("training_peers", "trl_packing"),
    "trl_tuned": ("training_peers", "trl_tuned"),
    "trl_padded": ("training_peers", "trl_padded"),
    "trl_shipped": ("training_peers", "trl_shipped"),
    "hf_padded": ("training_peers", "hf_padded"),
    "ours_ce": ("training_ours", "run", "sft"),
    "ours_dante": ("training_ours", "run", "dante_mosaic"),
    # The fixed multiplier: the penalty acts in every step. It is measured within the block that warms up.
    "ours_ads": ("training_ours", "run", "ads_fixed", "settled.start=0.0", "settled.end=0.1"),
    "ours_rs": ("training_ours", "run_cached", "random_sampling"),
    "ours_topk": ("training_ours", "run_cached", "topk_tail"),
    "ours_live_1x": ("training_ours", "run_live", "1x"),
    "ours_live_4x": ("training_ours", "run_live", "4x"),
    "ours_live_10x": ("training_ours", "run_live", "10x"),
}
# Live teachers: how many times the student's size.
LIVE = {"ours_live_1x": 1, "ours_live_4x": 4, "ours_live_10x": 10}
DISTILS = ("ours_rs", "ours_topk", *LIVE)

if __name__ == "__main__":
    sys.exit(main())
