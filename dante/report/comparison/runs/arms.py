"""Runs of one configuration and several seeds are one arm; an arm has a name, and what sets it apart from another."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dante.report.comparison.runs.read import Trained
from dante.report.read import Json
from dante.report.words import plain
from dante.system.files import fingerprint

# Where and how a run ran, what it shows, and texts about it: none of it is a difference between two recipes.
NOT_RECIPE = {"seed", "run", "only", "on_existing", "dry_run", "trainer", "logger", "report", "published", "where",
              "contradictions", "budgets", "eval"}  # fmt: skip
# The same of single keys.
NOT_RECIPE_KEYS = {"experiment.title", "experiment.hypothesis", "experiment.source", "cache.store", "teacher.python"}
# Of a step's settings: names and texts that repeat what stands elsewhere.
STEP_TEXTS = {"run", "name", "experiment", "report", "seed"}
Leaf = tuple[str, Any]


@dataclass(frozen=True)
class Arm:
    """Runs that differ in their seed alone.

    Attributes:
        name: unique in the comparison.
        runs: seed → run.
        notes: what a reader has to know, e.g. of a run that was left out.
    """

    name: str
    runs: dict[int, Trained]
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Trained:
        """Of the smallest seed: for everything that all of its runs share."""
        return self.runs[min(self.runs)]


def group(runs: Sequence[Trained]) -> list[Arm]:
    """Arms in the order of their first runs."""
    groups: dict[tuple[str, ...], list[Trained]] = {}
    for run in runs:
        # A sweep says itself which runs are an arm: what it sweeps may be no part of a recipe, as an evaluation's key.
        sweep_arm = (run.point.sweep or "", run.point.arm or "")
        groups.setdefault((*sweep_arm, fingerprint(_without_seeds(run.config)), *run.alike.key()), []).append(run)
    split = [
        part
        for members in groups.values()
        for part in ([members] if members[0].point.arm else _by_fixed_seeds(members))
    ]
    names = _names(split)
    return [_arm(name, members) for name, members in zip(names, split, strict=True)]


def differences(arm: Arm, base: Arm) -> list[str]:
    """`losses.tea: absent`, `fit.lr: 0.002`: what an arm's configuration sets otherwise than another's."""
    arm_leaves, base_leaves = (dict(_recipe(side.first.config)) for side in (arm, base))
    paths = [*arm_leaves, *(path for path in base_leaves if path not in arm_leaves)]
    changed = [path for path in paths if arm_leaves.get(path, _ABSENT) != base_leaves.get(path, _ABSENT)]
    seeds = {path for path in changed if path.rsplit(".", 1)[-1] == "seed"}
    follow = {
        path for path in seeds if arm_leaves.get(path) == arm.first.seed or base_leaves.get(path) == base.first.seed
    }
    changed = [path for path in changed if path not in follow]
    top = [path for path in changed if not path.startswith("steps.")] or changed
    return _shortened(top, arm_leaves, base_leaves)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Name → the part of it in which the arms of a table differ, for figures and headings."""
    words = [name.split("-") for name in names]
    shortest = min(map(len, words))
    if len(names) < 2 or shortest < 2:
        return {name: name for name in names}
    start = next((i for i in range(shortest - 1) if len({w[i] for w in words}) > 1), shortest - 1)
    rest = shortest - start
    end = next((i for i in range(rest - 1) if len({w[-1 - i] for w in words}) > 1), rest - 1)
    return {name: "-".join(w[start : len(w) - end]) for name, w in zip(names, words, strict=True)}


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()


def _shortened(paths: list[str], arm_leaves: Json, base_leaves: Json) -> list[str]:
    """A part that only one of two has is one difference, not one per key of it."""
    text_by_node: dict[str, str] = {}
    for path in paths:
        if path == "experiment.name":
            continue
        node = _whole_part(path, arm_leaves, base_leaves)
        if node != path:
            text_by_node[node] = f"{'+' if path in arm_leaves else '−'} {node}"
        elif path.endswith("_target_"):
            text_by_node[path] = f"{path.removesuffix('._target_')}: {str(arm_leaves[path]).rsplit('.', 1)[-1]}"
        else:
            text_by_node[path] = f"{path}: {plain(arm_leaves[path]) if path in arm_leaves else 'absent'}"
    return list(text_by_node.values())


def _whole_part(path: str, arm_leaves: Json, base_leaves: Json) -> str:
    """The highest node above a key that only one side has."""
    if path in arm_leaves and path in base_leaves:
        return path
    other = base_leaves if path in arm_leaves else arm_leaves
    parts = path.split(".")
    for depth in range(2, len(parts)):
        node = ".".join(parts[:depth])
        if not any(key == node or key.startswith(f"{node}.") for key in other):
            return node
    return path


def _recipe(config: Json) -> list[Leaf]:
    """Keys and values that make a recipe; steps without what they only repeat."""
    kept = {key: value for key, value in config.items() if key not in NOT_RECIPE | {"steps"}}
    leaves = [leaf for leaf in _leaves(kept) if leaf[0] not in NOT_RECIPE_KEYS]
    for label, step in config.get("steps", {}).items():
        settings = {k: v for k, v in (step.get("settings") or {}).items() if k not in STEP_TEXTS}
        if step.get("stage") in ("score", "eval", "report"):
            settings = {}
        node = {"stage": step.get("stage"), "inputs": step.get("inputs") or {}, "settings": settings}
        leaves += _leaves(node, f"steps.{label}")
    return leaves


def _leaves(node: Any, path: str = "") -> list[Leaf]:
    if isinstance(node, dict) and node:
        return [leaf for key, child in node.items() for leaf in _leaves(child, f"{path}.{key}" if path else str(key))]
    return [(path, node)]


def _without_seeds(config: Json) -> list[Leaf]:
    return sorted(leaf for leaf in _recipe(config) if leaf[0].rsplit(".", 1)[-1] != "seed")


def _by_fixed_seeds(runs: list[Trained]) -> list[list[Trained]]:
    """Splits runs by further seeds in their configuration (of a cache, of random weights).

    One that is the same everywhere tells nothing. Else it follows the run's own seed where it is equal to it, and is
    part of the configuration where it is not.
    """
    seeds = [{path: v for path, v in _recipe(run.config) if path.rsplit(".", 1)[-1] == "seed"} for run in runs]
    paths = {path for run_seeds in seeds for path in run_seeds}
    varied = {path for path in paths if len({str(run_seeds.get(path)) for run_seeds in seeds}) > 1}
    parts: dict[str, list[Trained]] = {}
    for run, seeds_of_run in zip(runs, seeds, strict=True):
        fixed = {
            path: "the run's" if seeds_of_run.get(path) == run.seed else seeds_of_run.get(path)
            for path in sorted(varied)
        }
        parts.setdefault(fingerprint(fixed), []).append(run)
    return list(parts.values())


def _names(groups: Sequence[list[Trained]]) -> list[str]:
    """The sweep's name for an arm, else its runs' common name without the seed; told apart where two are equal."""
    wanted = [runs[0].point.arm or re.sub(r"-s\d+$", "", runs[0].name) for runs in groups]
    names: list[str] = []
    for place, name in enumerate(wanted):
        first = wanted.index(name)
        if first != place:
            apart = differences(Arm("", {0: groups[place][0]}), Arm("", {0: groups[first][0]}))
            name = f"{name} ({', '.join(apart[:2])})" if apart else name
        number, unique = 2, name
        while unique in names:
            unique, number = f"{name} #{number}", number + 1
        names.append(unique)
    return names


def _arm(name: str, runs: list[Trained]) -> Arm:
    by_seed: dict[int, Trained] = {}
    twice = []
    for run in runs:
        if run.seed in by_seed:
            twice.append(f"{run.name} repeats seed {run.seed} of {by_seed[run.seed].name} and is left out")
        else:
            by_seed[run.seed] = run
    return Arm(name, dict(sorted(by_seed.items())), tuple(twice))
