"""Steps: fingerprints, the shared store, skip-if-complete. (See `Step` for what a stage is given.)"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """What a stage is given: its settings, the finished directories it reads, and the directory it writes.

    Attributes:
        label: unique name in the recipe (`fit`, `fit-low_t`).
        stage: which stage runs it.
        settings: resolved plain containers; part of the fingerprint.
        resources: resolved plain containers; devices, interpreters, loggers: not part of the fingerprint.
        inputs: finished step directories by input name.
        out: the `.partial` directory to write; may hold what an interrupted attempt left.
        fingerprint: identity of settings and inputs.
        seed: the run's seed.
    """

    label: str
    stage: str
    settings: dict[str, Any]
    resources: dict[str, Any]
    inputs: dict[str, Path]
    out: Path
    fingerprint: str
    seed: int
