"""`python -m dante.cache` with small files of sparse logits, which may kill itself at one of its file operations.

`tests.warm.Started("tests.sparse_worker", [KILL_AT, ARGUMENT, …], …)`: SIGKILL arrives before the KILL_AT-th rename or
removal of sparse logits (0: never).
"""

import itertools
import os
import signal
import sys
from typing import Any

from dante.cache.__main__ import main as command
from dante.cache.sparse.making import store

RECORDS_PER_FILE = 5
OPERATIONS = {"os.rename", "os.remove", "shutil.rmtree"}


def main() -> int:
    import torch

    torch.set_num_threads(1)
    kill_at, *arguments = sys.argv[1:]
    store.RECORDS_PER_FILE = RECORDS_PER_FILE
    count = itertools.count(1)

    def hook(event: str, about: tuple[Any, ...]) -> None:
        of_logits = event in OPERATIONS and "logits-" in str(about[0]) and ".lock" not in str(about[0])
        if of_logits and next(count) == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return command(arguments)
