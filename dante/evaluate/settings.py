"""What a `score` and an `eval` step may be told."""

from collections.abc import Mapping
from typing import Any, Literal

from dante.run.config.schema import Confidence, Count, Index, Strict, Suites
from dante.run.recipe import merged

_OF = "_of_"


def of_model(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Plain settings in which every suite is the one for the model that the step measures.

    A suite's `_of_` says by model what is other about it, null that it is not measured: `{teacher: null}`. What is not
    asked of a model is no part of its step's settings, so runs share the step whatever they ask of their students.
    """
    model = settings.get("model", "student")
    suites = settings.get("suites")
    if not isinstance(suites, Mapping):
        return dict(settings)
    suite_nodes = {name: _of(node, model) for name, node in suites.items()}
    return {**settings, "suites": {name: node for name, node in suite_nodes.items() if node is not None}}


def _of(node: Any, model: str) -> Any:
    if not isinstance(node, Mapping):
        return node
    changes = node.get(_OF) or {}
    plain = {key: value for key, value in node.items() if key != _OF}
    return merged(plain, changes[model]) if model in changes else plain


class Measured(Strict):
    """How any model of a run is measured.

    Attributes:
        seed: of whatever a suite draws.
        precision: of the model's weights and activations.
        heldout: held-out records that are scored; None: all.
        suites: what is measured.
        chat: variables of the chat template.
    """

    seed: Index
    precision: Literal["auto", "bf16", "fp32"]
    heldout: Count | None
    suites: Suites
    chat: dict[str, Any]


class Score(Measured):
    """One model besides the student: the teacher, the initialisation, or what a first fit of blocks has made of it."""

    model: Literal["teacher", "init", "matched"]


class Eval(Measured):
    """The student, beside what was measured before."""

    bootstrap: Count
    confidence: Confidence


class Footprint(Strict):
    """How the speed of models is measured: greedy answers, one at a time, models in turn.

    Attributes:
        prompt_tokens: read before each answer.
        new_tokens: of an answer.
        repeats: answers of each model that count.
        precision: of weights and products.
    """

    prompt_tokens: Count
    new_tokens: Count
    repeats: Count
    precision: Literal["auto", "bf16", "fp32"]
