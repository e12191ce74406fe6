"""Raw text that every machine with Python has: the language reference (prose), and the standard library (code)."""

import hashlib
import platform
import sysconfig
from pathlib import Path

from dante.cache.prompts.pocket import Prompt
from dante.errors import DanteError

_KINDS = ("prose", "code")


class PythonTexts:
    """Texts of the Python installation at hand, without a download; another version has others.

    Args:
        kind: `prose` (the language reference that `help()` shows) or `code` (the standard library's modules).
    """

    licence = "PSF-2.0"

    def __init__(self, kind: str) -> None:
        if kind not in _KINDS:
            raise DanteError(f"unknown kind {kind!r}", where="prompts.kind", allowed=", ".join(_KINDS))
        self.kind = kind

    def identity(self) -> dict[str, str]:
        """Version of Python, and a hash of the texts."""
        digest = hashlib.sha256()
        for name, text in self._texts():
            digest.update(f"{name}\0{text}\0".encode())
        return {"kind": self.kind, "python": platform.python_version(), "sha256": digest.hexdigest()[:16]}

    def load(self) -> list[Prompt]:
        """One text per topic or module, in an order that the names' hashes decide."""
        texts = sorted(self._texts(), key=lambda item: hashlib.sha256(item[0].encode()).digest())
        return [Prompt(text, self.kind, "en", f"python-{self.kind}") for _, text in texts]

    def _texts(self) -> list[tuple[str, str]]:
        if self.kind == "prose":
            from pydoc_data.topics import topics

            return sorted(topics.items())
        folder = Path(sysconfig.get_path("stdlib"))
        return [
            (path.name, path.read_text(encoding="utf-8"))
            for path in sorted(folder.glob("*.py"))
            if not path.name.startswith("_")
        ]
