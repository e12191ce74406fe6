"""Which process of a distributed run this is, before any process group exists."""

import os

_RANK_VARIABLES = ("RANK", "SLURM_PROCID", "LOCAL_RANK")


def of_this_process() -> int:
    """The global rank as torchrun, srun or Lightning's own launcher announce it; 0 when nothing does.

    Under SLURM the rank counts only inside `srun`'s step, not in an interactive allocation's shell.
    """
    for name in _RANK_VARIABLES:
        if name == "SLURM_PROCID" and int(os.environ.get("SLURM_NTASKS", "1")) <= 1:
            continue
        if name in os.environ:
            return int(os.environ[name])
    return 0


def processes() -> int:
    """How many processes a launcher says there are; 1 when none does."""
    announced = (os.environ.get(name) for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    return max((int(count) for count in announced if count), default=1)
