"""A folder for a cache that a command writes: new or empty, so that nothing of the user's is ever replaced."""

from pathlib import Path

from dante.errors import DanteError


def check_new(directory: Path) -> None:
    """Raises `DanteError` where something lies already."""
    if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
        raise DanteError(
            f"{directory} is not empty", where="OUT", allowed="a new or empty folder", fix="name another, or remove it"
        )
