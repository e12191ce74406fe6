"""Tasks as lm-evaluation-harness defines them, with items from anywhere.

A definition is read from the installed harness and nothing of it is written again here: prompts, worked examples,
delimiters, stop strings, filters and metrics are its own. Only where the items come from is changed.
"""

import ast
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dante.errors import DanteError, did_you_mean

Definition = dict[str, Any]


@dataclass(frozen=True)
class Definitions:
    """The harness's definitions that lie in one folder of its tasks.

    Attributes:
        folder: in its tasks, such as `mmlu/default`; None: all of them, which are thousands of files.
    """

    folder: str | None = None

    def leaves(self, name: str) -> list[str]:
        """The tasks that a name stands for: itself, or those of a group, in the harness's order.

        Raises:
            DanteError: the harness has no such task.
        """
        index = _index(self.folder)
        if name not in index:
            raise DanteError(
                f"the evaluation harness has no task {name!r}" + (f" in {self.folder}" if self.folder else ""),
                where="task",
                allowed="a name that `lm-eval ls tasks` lists",
                fix=did_you_mean(name, list(index)) or "correct the name",
            )
        entry = index[name]
        if entry.yaml_path is None:  # a tag
            return sorted(entry.tags)
        children = entry.cfg.get("task")
        if not isinstance(children, list):
            return [name]
        named = [child if isinstance(child, str) else child["task"] for child in children]
        return [leaf for child in named for leaf in self.leaves(child)]

    def read(self, name: str, *, functions: bool = True) -> Definition:
        """What the harness says of a task, its includes merged.

        Args:
            name: of a single task.
            functions: import what its YAML names with `!function`; else their places as text (`FILE.NAME`), for tasks
                whose modules ask a server for something as soon as they are imported.
        """
        return dict(_read(self.folder, name, functions))


@functools.cache
def _read(folder: str | None, name: str, functions: bool) -> Definition:
    # The harness has no public function that reads a definition without loading its items.
    from lm_eval.tasks._yaml_loader import load_yaml

    known: Definition = load_yaml(_index(folder)[name].yaml_path, resolve_func=functions)
    return known


@functools.cache
def _index(folder: str | None) -> Any:
    import lm_eval.tasks

    if folder is None:
        return lm_eval.tasks.TaskManager().task_index
    place = Path(lm_eval.tasks.__file__).parent / folder
    return lm_eval.tasks.TaskManager(include_path=str(place), include_defaults=False).task_index


def hub_set(known: Mapping[str, Any]) -> str:
    """The name of a task's set: the hub's, and of several sets in one the set's own (`cais/mmlu/virology`)."""
    path, part = known.get("dataset_path"), known.get("dataset_name")
    return f"{path}/{part}" if part else str(path)


def asked_split(known: Mapping[str, Any]) -> str:
    """The split that a task's items are asked of."""
    return str(known.get("test_split") or known.get("validation_split"))


def task(known: Definition, splits: Mapping[str, Any] | None, *, shots: int, seed: int) -> Any:
    """A task object of the harness's.

    Args:
        known: its definition.
        splits: items by split, held in memory; None: the harness loads them itself.
        shots: worked examples.
        seed: of which examples are drawn.
    """
    from lm_eval.api.task import ConfigurableTask

    config = {key: value for key, value in known.items() if key not in ("tag", "group", "task_list")}
    if splits is not None:
        config["custom_dataset"] = lambda **_: dict(splits)
    made = ConfigurableTask(config=config)
    made.set_config(key="num_fewshot", value=shots)
    made.set_fewshot_seed(seed=seed)
    # The harness would make its items anew at every look, and some by chance: asked in one order, scored in another.
    split = asked_split(vars(made.config))
    made.dataset = {**made.dataset, split: made.eval_docs}
    made.config.process_docs = None
    return made


def pure_function(place: str) -> Any:
    """A function out of a file of the harness's that cannot be imported here, on its own.

    Args:
        place: `FILE.NAME`, as `Definitions.read(…, functions=False)` gives it.
    """
    file, _, name = place.rpartition(".")
    tree = ast.parse(Path(file).with_suffix(".py").read_text(encoding="utf-8"))
    found: list[ast.stmt] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    if not found:
        raise DanteError(f"{Path(file).name}.py of the evaluation harness has no function {name}", where=place)
    names: dict[str, Any] = {}
    exec(compile(ast.Module(found, []), file, "exec"), names)
    return names[name]
