"""Puzzles of the package `reasoning-gym`: to be asked of a teacher, and to measure models with."""

from types import ModuleType
from typing import Any

from dante.errors import DanteError


def package(where: str) -> ModuleType:
    """The package.

    Args:
        where: the key that asks for it, for the message.

    Raises:
        DanteError: it is not installed.
    """
    try:
        import reasoning_gym
    except ModuleNotFoundError as error:
        raise DanteError(
            f"the package reasoning-gym is not installed ({error})", where=where, fix="pip install 'dante[puzzles]'"
        ) from None
    return reasoning_gym


def puzzles_of(task: str, told: dict[str, Any], count: int, seed: int, where: str) -> Any:
    """A data set of the package's: entries with `question` and `answer`, and `score_answer`.

    Args:
        task: its name there.
        told: how many terms, how many digits; `{}`: the package's own level.
        count: puzzles.
        seed: of them.
        where: the key that asks for it, for messages.

    Raises:
        DanteError: the package is not installed, has no such task, or cannot make it so.
    """
    made_by = package(where)
    from reasoning_gym.factory import DATASETS

    if task not in DATASETS:
        raise DanteError(
            f"reasoning-gym has no task {task!r}", where=f"{where}.tasks", allowed=", ".join(sorted(DATASETS))
        )
    try:
        return made_by.create_dataset(task, size=count, seed=seed, **told)
    except (TypeError, AssertionError) as error:
        raise DanteError(
            f"reasoning-gym's task {task!r} cannot be told that: {error}",
            where=f"{where}.tasks.{task}",
            fix="see the configuration class of the task in the package",
        ) from None
