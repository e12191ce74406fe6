"""Sets that the user has put into a folder."""

from pathlib import Path

from dante.system.jsonl import read_lines
from dante.testsets.benchmarks.base import INSTALL, Found, Sets, missing


class FolderSets(Sets):
    """Files of the user's own.

    Args:
        folder: with a folder per set, and in it a JSONL file per split, whose lines have the columns of the hub's set.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).expanduser()

    def find(self, name: str) -> Found:
        files = sorted((self.folder / name).glob("*.jsonl"))
        if not files:
            raise missing(
                name,
                f"no {self.folder / name}/SPLIT.jsonl",
                f"put them there, a line per item with the columns of the hub's set, or {INSTALL} and "
                "data.benchmarks=package, where that package has them",
            )
        return Found({path.stem: read_lines(path) for path in files}, "items from a folder")
