"""What an experiment's own script needs beside `fill`: the runs of every arm, and a place for its table and figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dante.report.comparison.runs.find import find


def runs_by_arm(paths: Sequence[str]) -> dict[str, list[Path]]:
    """Finished sweeps → the directories of each arm's runs.

    Raises:
        DanteError: there is none, as `dante.report.comparison.runs.find`.
    """
    folders_by_arm: dict[str, list[Path]] = {}
    for point in find([Path(path) for path in paths]).points:
        folders_by_arm.setdefault(str(point.arm), []).append(point.path)
    return folders_by_arm


def publish(folder: Path, files: Mapping[str, str | bytes], before: Sequence[str] = ()) -> None:
    """Writes files into an experiment's folder and says where; texts (tables) are printed, too.

    Args:
        folder: the experiment's.
        files: name → content.
        before: names of files that the script has written before.
    """
    for name, content in files.items():
        data = content.encode("utf-8") if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        if isinstance(content, str):
            print(content)
    print("\n".join(f"wrote {folder / name}" for name in (*before, *files)))
