"""Parts of the lab that once lay elsewhere: configurations of then and now name the same thing.

A part's name is written into every run's configuration and into the fingerprint of the steps that use it. Where code
lies says nothing about what it makes, so fingerprints keep the first name: a run that was finished before a move is
complete after it, and an expensive fit is never repeated because a file was moved.
"""

from typing import Any

# Where a part lies now → where it lay first: modules, with the dot behind them.
_FIRST = {
    "dante.data.curriculum.": "dante.curriculum.",
    "dante.text.repetition.": "dante.teachers.repetition.",
    "dante.teachers.engines.base.": "dante.teachers.engine.",
    "dante.teachers.engines.transformers_engine.": "dante.teachers.transformers_engine.",
    "dante.teachers.engines.vllm_engine.": "dante.teachers.vllm_engine.",
    "dante.teachers.engines.ray_engine.": "dante.teachers.ray_engine.",
    "dante.teachers.engines.server.engine.": "dante.teachers.server_engine.",
    "dante.cache.generate.consistency.": "dante.cache.consistency.",
    "dante.testsets.benchmarks.": "dante.evaluate.benchmarks.sets.",
    "dante.losses.spans.alm.": "dante.losses.distillation.alm.",
}


# How a student began before that was a part.
_FIRST_WEIGHTS = {
    "dante.students.init.keep_layers.KeepLayers": "pretrained",
    "dante.students.init.draw_anew.DrawAnew": "random",
}


# How a fit rendered its records before it had a choice.
_FIRST_RENDERING = "chat"


def first_names(node: Any) -> Any:
    """A copy of plain content in which every `_target_` has its part's first name, and every part its first form."""
    if isinstance(node, dict) and "curriculum" in node and node.get("rendering") == _FIRST_RENDERING:
        node = {key: value for key, value in node.items() if key != "rendering"}
    if isinstance(node, dict) and "architecture" in node and node.get("system_prompt", "") is None:
        node = {key: value for key, value in node.items() if key != "system_prompt"}  # as before there was one
    if isinstance(node, dict) and "_target_" in (init := _dict(node.get("init"))) and _student(node, init):
        node = _student(node, init)
    if isinstance(node, dict):
        return {key: _first(child) if key == "_target_" else first_names(child) for key, child in node.items()}
    return [first_names(child) for child in node] if isinstance(node, list | tuple) else node


# Keys of the configuration that lie elsewhere now.
_KEYS = {"student.layers": "student.init.layers", "student.seed": "student.init.seed"}
_KEYS["student.weights"] = "student.init._target_"


def key_now(key: str) -> str | None:
    """Where a configuration's key lies now; None where it lies there still."""
    return _KEYS.get(key)


def name_now(target: str) -> str | None:
    """Where a part lies that is called by its first name; None where it lies there still."""
    for now, first in _FIRST.items():
        if target.startswith(first):
            return now + target.removeprefix(first)
    return None


def _dict(node: Any) -> dict[str, Any]:
    return node if isinstance(node, dict) else {}


def _student(node: dict[str, Any], init: dict[str, Any]) -> dict[str, Any]:
    """A student in the keys that it had before `init` was a part; empty for one that could not be said in them."""
    weights = _FIRST_WEIGHTS.get(init["_target_"])
    if weights is None:
        return {}
    former_init = {"layers": init["layers"], "weights": weights, "seed": init.get("seed", 0)}
    return {key: value for key, value in node.items() if key != "init"} | former_init


def _first(target: Any) -> Any:
    for now, first in _FIRST.items():
        if isinstance(target, str) and target.startswith(now):
            return first + target.removeprefix(now)
    return target
