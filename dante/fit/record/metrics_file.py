"""The file of a fit's metrics: one line per step, and what a resumed fit may keep of it."""

import json
import math
import os
from pathlib import Path
from typing import Any

from dante.system.files import write_text


class MetricsFile:
    """An append-only JSONL file that can be cut back to a step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut_after(self, step: int) -> None:
        """Keep the lines of steps up to `step`: what a resumed fit is going to repeat must not stand twice."""
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n") or _step_of(line) > step:
                break
            kept.append(line)
        write_text(self.path, "".join(kept))

    def append(self, row: dict[str, Any]) -> None:
        """Write one line and hand it to the operating system at once; what JSON lacks (NaN, infinity) becomes null."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite, allow_nan=False) + "\n")

    def flush(self) -> None:
        """Have what was written on disk: a checkpoint must not outlive the lines before it."""
        if self.path.is_file():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())


def _step_of(line: str) -> float:
    """The step of a line; one that is damaged counts as later than any."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
