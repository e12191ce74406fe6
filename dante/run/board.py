"""How the processes of a distributed run agree about its steps: rank 0 decides and leaves word, the others follow.

Rank 0 alone looks at the store, checks, redoes and publishes. For every step it writes one word into
`<run>/.ranks/<start>/<label>`: `run` (all ranks take part now) or `ready` (go on). So the others need no rule of their
own about what is complete, damaged or to be overwritten. `<start>` is known to all processes of one start and differs
between starts, so an old word is never taken for a new one.
"""

import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Literal

from dante.errors import DanteError
from dante.system.files import write_text

Word = Literal["run", "ready"]
POLL_S = 0.2
_FOLDER = ".ranks"
_FAILED = ".failed"
_START = "DANTE_START"


def start_id() -> str:
    """What the processes of this start have in common: the launcher's job, or rank 0's own mark in its children."""
    if _START not in os.environ:
        os.environ[_START] = _launcher_id() or f"own-{secrets.token_hex(6)}"
    return os.environ[_START]


def _launcher_id() -> str | None:
    groups = {
        "torchrun": ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"),
        "slurm": ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"),
    }
    for name, variables in groups.items():
        if variables[0] in os.environ and (name != "slurm" or int(os.environ.get("SLURM_NTASKS", "1")) > 1):
            values = [os.environ.get(variable, "0") for variable in variables]
            return re.sub(r"[^A-Za-z0-9.-]", "_", "-".join([name, *values]))
    return None


def started_by_rank_0() -> bool:
    """Whether this is a process that rank 0 itself started (no torchrun, no srun)."""
    return os.environ.get("LOCAL_RANK", "0") != "0" and os.environ.get(_START, "").startswith("own-")


class Board:
    """Where rank 0 leaves word. On one process nobody reads it, and nothing is written."""

    def __init__(self, run_dir: Path, processes: int) -> None:
        self.used = processes > 1
        self.folder = run_dir / _FOLDER / (start_id() if self.used else "one-process")

    def clear(self) -> None:
        """Rank 0, before the first word: remove what earlier starts left."""
        if self.used:
            shutil.rmtree(self.folder.parent, ignore_errors=True)
            self.folder.mkdir(parents=True)

    def tell(self, label: str, word: Word) -> None:
        """Rank 0: what the others have to do about a step."""
        if self.used:
            write_text(self.folder / label, word)

    def tell_failure(self) -> None:
        """Rank 0, on its way out."""
        if self.used and self.folder.is_dir():
            write_text(self.folder / _FAILED, "")

    def wait(self, label: str) -> Word:
        """The other ranks: rank 0's word about a step.

        Raises:
            DanteError: rank 0 has failed, or is gone.
        """
        parent = os.getppid()
        while not (self.folder / label).is_file():
            if (self.folder / _FAILED).exists() or os.getppid() != parent:
                raise DanteError("the process with rank 0 has ended, so this one ends, too", fix="see what rank 0 says")
            time.sleep(POLL_S)
        return "run" if (self.folder / label).read_text(encoding="utf-8") == "run" else "ready"
