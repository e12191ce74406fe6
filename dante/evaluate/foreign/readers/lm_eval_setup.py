"""lm-evaluation-harness: which model was asked, and how; for a group, what all of its tasks share."""

from collections.abc import Mapping, Sequence
from typing import Any

from dante.evaluate.foreign.readers.base import PRECISIONS
from dante.evaluate.foreign.readers.lm_eval_tasks import leaves
from dante.evaluate.harness.decoding import decoding_of


def shared(by_task: Mapping[str, Any], tasks: Sequence[str]) -> Any:
    """What all tasks have; None where they differ or one of them has nothing."""
    values = [by_task.get(task) for task in tasks]
    return values[0] if all(value == values[0] for value in values) else None


def model(content: Mapping[str, Any]) -> str:
    """The model's name or folder; empty where the file has none. An adapter stands for the model with it."""
    arguments = _arguments(content)
    named = content.get("model_name") or arguments.get("peft") or arguments.get("pretrained") or arguments.get("model")
    return str(named or "")


def precision(content: Mapping[str, Any]) -> str | None:
    """`fp32`, `bf16`, or the harness's own word."""
    dtype = content.get("config", {}).get("model_dtype") or _arguments(content).get("dtype")
    word = str(dtype or "").removeprefix("torch.")
    return PRECISIONS.get(word, word) or None


def chat(content: Mapping[str, Any]) -> bool | None:
    """Whether a chat template wrote the prompts; None where the file is older than the key."""
    return content["chat_template"] is not None if "chat_template" in content else None


def shots(content: Mapping[str, Any], task: str) -> int | None:
    """Worked examples in the prompt; None where a group's tasks have different numbers of them."""
    inside = leaves(content, task)
    in_configs = {leaf: config.get("num_fewshot") for leaf, config in content.get("configs", {}).items()}
    stated = content.get("n-shot", {})
    said = (stated.get(task), shared(stated, inside), shared(in_configs, inside))
    known = [count for count in said if count is not None]
    return int(known[0]) if known else None


def task_version(content: Mapping[str, Any], task: str) -> str:
    """The version that a group's tasks share: prompts are theirs. Else the group's own."""
    versions = content.get("versions", {})
    found = shared(versions, leaves(content, task))
    found = versions.get(task) if found is None else found
    return "" if found in (None, "N/A") else str(found)


def split(content: Mapping[str, Any], task: str) -> str:
    """Where the questions come from: the test split, or, where a task has none, the validation split."""
    splits = {
        leaf: config.get("test_split") or config.get("validation_split") or ""
        for leaf, config in content.get("configs", {}).items()
    }
    return shared(splits, leaves(content, task)) or ""


def limit(content: Mapping[str, Any], task: str) -> int | None:
    """At most so many questions of each of its tasks, if that left any out; a limit may be a share of them, too."""
    said = content.get("config", {}).get("limit")
    counts = [content.get("n-samples", {}).get(leaf) for leaf in leaves(content, task)]
    if not said or (all(counts) and all(count["effective"] >= count["original"] for count in counts)):
        return None
    if said >= 1:
        return int(said)
    return sum(count["effective"] for count in counts) if all(counts) else None


def decoding(content: Mapping[str, Any], task: str) -> str:
    """How the model was asked; empty where its tasks were not asked alike."""
    configs = {leaf: decoding_of(config) for leaf, config in content.get("configs", {}).items()}
    return shared(configs, leaves(content, task)) or ""


def _arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    """`model_args`: an object, in earlier versions `pretrained=NAME,dtype=float16`."""
    given = content.get("config", {}).get("model_args") or {}
    if isinstance(given, dict):
        return given
    return dict(word.split("=", 1) for word in str(given).split(",") if "=" in word)
