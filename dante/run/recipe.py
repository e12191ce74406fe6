"""A recipe's steps: those that are left of what was composed, in the order of what they read."""

from collections.abc import Mapping
from typing import Any

from dante.errors import DanteError, did_you_mean

Steps = dict[str, dict[str, Any]]


def present(steps: Mapping[str, Any]) -> Steps:
    """Without steps and inputs that a configuration has set to null: how YAML removes what a recipe brought."""
    left = _given(steps)
    for label, step in left.items():
        if isinstance(step, dict) and isinstance(step.get("inputs"), dict):
            left[label] = step | {"inputs": _given(step["inputs"])}
    return left


def changed(steps: Steps) -> Steps:
    """With every step's `changes` merged over its `settings`: what a step has of its own beside the nodes it shares.

    A part (a node with a `_target_`) that names another class is replaced as a whole: its arguments belong to it.
    """
    return {
        label: step | {"settings": merged(step["settings"], step["changes"])} if step.get("changes") else step
        for label, step in steps.items()
    }


def key_of(step: Mapping[str, Any], label: str, key: str) -> str:
    """What to type for a key of a step's settings: its own change where it has one, else the node that steps share."""
    node: Any = step.get("changes") or {}
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return key if node is None else f"steps.{label}.changes.{key}"


def ordered(steps: Steps) -> Steps:
    """Every step behind those that it reads; otherwise as they are written.

    Raises:
        DanteError: a step reads one that no step writes, or steps read each other.
    """
    order: list[str] = []

    def visit(label: str, path: list[str]) -> None:
        if label in path:
            circle = " → ".join([*path[path.index(label) :], label])
            raise DanteError(
                f"steps read each other: {circle}", where=f"steps.{label}.inputs", fix="take one of these inputs away"
            )
        if label in order:
            return
        for name, source in (steps[label].get("inputs") or {}).items():
            if source not in steps:
                others = [other for other in steps if other != label]
                key = f"steps.{label}.inputs.{name}"
                raise DanteError(
                    f"step {label!r} reads {source!r}, which no step writes",
                    where=key,
                    allowed=", ".join(others),
                    fix=f"{did_you_mean(source, others)} {key}=null takes the input away".strip(),
                )
            visit(source, [*path, label])
        order.append(label)

    for label in steps:
        visit(label, [])
    return {label: steps[label] for label in order}


def merged(node: Any, change: Any) -> Any:
    """A node with a change in it, key by key; see `changed`."""
    if not (isinstance(node, Mapping) and isinstance(change, Mapping)):
        return change
    if "_target_" in change and change["_target_"] != node.get("_target_"):
        return dict(change)
    return {**node, **{key: merged(node.get(key), value) for key, value in change.items()}}


def _given(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if value is not None}
