"""The lab's configuration, which lies beside the package."""

from pathlib import Path

from dante.errors import DanteError

CONF = Path(__file__).resolve().parents[3] / "conf"


def check_folder() -> None:
    """Commands that compose a part of it need it.

    Raises:
        DanteError: the package was installed without its repository.
    """
    if not CONF.is_dir():
        raise DanteError("the lab's conf/ is not beside it", where=str(CONF), fix="install it from its repository")
