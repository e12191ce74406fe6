"""Where a teacher's answers are kept: one folder for each teacher, tokenizer, template and engine."""

import re
from pathlib import Path
from typing import Any

from dante.cache.generate.answer_store import AnswerStore
from dante.cache.generate.requests import Renderer
from dante.models.outside import model_identity
from dante.run.step import Step
from dante.system.files import fingerprint
from dante.teachers.engines.base import Engine
from dante.teachers.teacher import Teacher

STORES = ".answers"


def teacher_store(step: Step, teacher: Teacher, renderer: Renderer, engine: Engine, logprobs: int) -> AnswerStore:
    """The store that `step.resources["store"]` names; where it is null, a folder of the runs'.

    Args:
        step: that asks.
        teacher: who answers.
        renderer: of the questions.
        engine: how it is run.
        logprobs: K, how many log-probabilities per position the entropy bounds are computed from.
    """
    named = {"name": teacher.name, **({} if teacher.local else {"model": teacher.model})}
    provenance = {
        "teacher": named | _what_answers(teacher),
        **renderer.identity(),
        "engine": engine.settings() | {"logprobs": logprobs},
    }
    given = step.resources.get("store")
    if given is not None:
        return AnswerStore(Path(given).expanduser(), provenance)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", teacher.name)
    return AnswerStore(step.out.parent.parent / STORES / f"{name}-{fingerprint(provenance)}", provenance)


def _what_answers(teacher: Teacher) -> dict[str, Any]:
    """What answers depend on besides tokenizer and settings.

    Of a folder of the user's, that is every file that loading reads: a config may be edited, or name other stop tokens.
    """
    if teacher.local and Path(teacher.model).is_absolute():
        return {"files": fingerprint(model_identity(Path(teacher.model)))}
    return {"weights": teacher.sha256} if teacher.sha256 else {"revision": teacher.revision}
