"""A task's definition, fitted to the splits that a set has here."""

from collections.abc import Mapping, Sequence
from typing import Any

from dante.errors import DanteError
from dante.evaluate.harness.definitions import Definition, asked_split


def fitted(known: Definition, found: Mapping[str, Sequence[Any]], shots: int) -> tuple[Definition, str]:
    """The definition with splits that exist, and what stands in for one that does not; empty where nothing does.

    Where all is here, nothing is changed: which examples the harness draws depends on how its splits are named. Else
    worked examples come from another split, or from the other items of the one that is asked. An item is never a worked
    example of itself: the harness takes care of that where both splits bear one name.

    Raises:
        DanteError: the split that is asked is not here.
    """
    asked = asked_split(known)
    if asked not in found:
        raise DanteError(
            f"the set has no split {asked!r}", where=str(known.get("task")), allowed=", ".join(found) or "none is here"
        )
    own = known.get("fewshot_split") or known.get("training_split") or known.get("validation_split")
    if own in found or "samples" in (known.get("fewshot_config") or {}):
        return known, ""
    other = next((split for split in found if split != asked), asked)
    fitting = {**known, "test_split": asked, "training_split": None, "validation_split": None, "fewshot_split": other}
    if not shots:  # the harness opens the split that it would take examples from all the same
        return fitting, ""
    where = f"the split {other}" if other != asked else f"the other items of the split {other}"
    return fitting, f"its worked examples are from {where}, since the split {own} is not here"
