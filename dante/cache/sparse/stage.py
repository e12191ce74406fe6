"""Stage `logits`: the teacher reads the cache's answers once, and what is kept of its distributions lies in files."""

from typing import Any

from dante import console
from dante.cache.sparse.making.make import Order, make, summary
from dante.errors import DanteError
from dante.run.config.schema import Kept
from dante.run.parts import build
from dante.run.step import Step


def run(step: Step[Kept]) -> None:
    """Writes `logits-KIND-00000.safetensors …` into `step.out`; an interrupted step continues with its next batch.

    Inputs: `cache`; `teacher`, its own.

    Raises:
        DanteError: see `make`.
    """
    settings = step.settings
    step.out.mkdir(parents=True, exist_ok=True)
    order = Order(step.inputs["cache"], step.inputs["teacher"], settings.kind, settings.size, settings.seed)
    engine: Any = build(settings.engine)
    try:
        logits = make(order, engine, step.resources, step.out, _told)
    except DanteError as error:
        where, allowed, fix = map(_as_typed, (error.where, error.allowed, error.fix))
        raise DanteError(error.what, where=where, allowed=allowed, fix=fix) from None
    for line in summary(logits)[:3]:  # the folder gets its name when the step is complete, and is told then
        _told(line)


# What the command calls otherwise.
_KEYS = (
    ("--engine transformers", "engine@kept.engine=transformers"),
    ("--engine", "kept.engine"),
    ("--kind ", "kept="),
    ("--size ", "kept.size="),
    ("--size", "kept.size"),
    ("--out ", "another folder: "),
)


def _as_typed(text: str) -> str:
    """A part of an error in the keys of a run."""
    for option, key in _KEYS:
        text = text.replace(option, key)
    return text


def _told(line: str) -> None:
    console.info(f"  {line}")
