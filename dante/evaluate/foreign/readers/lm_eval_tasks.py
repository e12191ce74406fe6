"""lm-evaluation-harness: which tasks of a file stand by themselves, and what their metrics are called here."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from dante.evaluate.harness.decoding import number

# Filters that are the task's only way of reading an answer add nothing to a metric's name.
_FILTERS = {
    "none": "",
    "custom-extract": "",
    "create_test": "",
    "extract_code": "",
    "strict-match": "strict",
    "flexible-extract": "flexible",
}


def roots(content: Mapping[str, Any]) -> list[str]:
    """Tasks with scores that are part of no group with scores, in the file's order; groups among them."""
    scored = [task for task in content["results"] if metric_names(content, task)]
    inner = {part for task in scored for part in below(content, task)}
    return [task for task in scored if task not in inner]


def below(content: Mapping[str, Any], task: str) -> list[str]:
    """Everything that a group consists of, groups in it included; of a task nothing."""
    found: dict[str, None] = {}
    for part in content.get("group_subtasks", {}).get(task) or []:
        found |= dict.fromkeys([part, *below(content, part)])
    return list(found)


def leaves(content: Mapping[str, Any], task: str) -> list[str]:
    """The tasks of a group; a task itself."""
    groups = content.get("group_subtasks", {})
    return [part for part in (below(content, task) or [task]) if not groups.get(part)]


def metric_names(content: Mapping[str, Any], task: str) -> dict[str, str]:
    """The harness's keys of a task, such as `exact_match,strict-match`, and ours: `exact_match_strict`."""
    found = content["results"].get(task, {})
    keys = [key for key, value in found.items() if "," in key and "_stderr," not in key and number(value) is not None]
    taken = Counter(_name(key, _FILTERS) for key in keys)
    return {key: name if taken[name] == 1 else _name(key, {}) for key, name in ((k, _name(k, _FILTERS)) for k in keys)}


def _name(key: str, filters: Mapping[str, str]) -> str:
    metric, _, kind = key.partition(",")
    suffix = filters.get(kind, re.sub(r"\W+", "_", kind))
    return re.sub(r"@", "_at_", metric) + (f"_{suffix}" if suffix else "")
