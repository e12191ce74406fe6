"""Stage `logits`: the teacher reads the cache's answers once, and what is kept of its distributions lies in files."""

from typing import Any

from dante import console
from dante.cache.sparse.kinds import KINDS
from dante.cache.sparse.making.make import Order, make, summary
from dante.cache.sparse.settings import Settings
from dante.errors import DanteError
from dante.run.parts import build
from dante.run.step import Step


def run(step: Step[Settings]) -> None:
    """Writes `logits-KIND-00000.safetensors …` into `step.out`; an interrupted step continues with its next batch.

    Inputs: `cache`; `teacher`, its own.

    Raises:
        DanteError: an unknown kind, or see `make`.
    """
    settings = step.settings
    if settings.kind not in KINDS:
        raise DanteError(
            f"unknown kind {settings.kind!r}", where="kept.kind", allowed=", ".join(KINDS), fix="kept=topk_tail"
        )
    step.out.mkdir(parents=True, exist_ok=True)
    order = Order(step.inputs["cache"], step.inputs["teacher"], settings.kind, settings.size, settings.seed)
    engine: Any = build(settings.engine)
    # The folder gets its name when the step is complete, and is told then.
    for line in summary(make(order, engine, step.resources, step.out, _told))[:3]:
        _told(line)


def _told(line: str) -> None:
    console.info(f"  {line}")
