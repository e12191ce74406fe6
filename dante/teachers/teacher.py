"""The finished teacher step as other stages see it: `teacher.json`, and where the weights are."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.system.files import sha256

FILE_NAME = "teacher.json"
# The key that names a teacher that exists already.
SOURCE = "teacher.make.model"


@dataclass(frozen=True)
class Teacher:
    """Identity of a teacher.

    Attributes:
        name: what reports call it.
        model: a folder relative to the step's directory, an absolute folder, or a hub id.
        local: True when `model` is a folder.
        revision: hub revision, or None.
        licence: SPDX identifier of the weights.
        sha256: hash of the weights' source (see the class that made it), or None for a hub id.
        chat_template: True when the tokenizer carries a chat template.
    """

    name: str
    model: str
    local: bool
    revision: str | None
    licence: str
    sha256: str | None
    chat_template: bool

    def write(self, directory: Path) -> None:
        """Writes `teacher.json` into `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE_NAME).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    def location(self, directory: Path) -> str:
        """What `from_pretrained` takes: the absolute folder of a local teacher, else the hub id."""
        return str((directory / self.model).resolve()) if self.local else self.model

    def wrote(self, writer: Mapping[str, Any]) -> bool:
        """Whether this is who wrote a cache's answers: by the hash of the weights where both have one, else by name.

        Args:
            writer: the entry `teacher` of the cache's manifest.
        """
        if writer.get("sha256") and self.sha256:
            return bool(writer["sha256"] == self.sha256)
        return self.name == writer.get("name") or self.model == writer.get("model")


def load_teacher(directory: Path) -> Teacher:
    """Reads `teacher.json`; raises `DanteError` when the directory is not a finished teacher step."""
    path = Path(directory) / FILE_NAME
    if not path.is_file():
        raise DanteError(f"no {FILE_NAME}", where=str(path), fix="run the teacher stage first: only=teacher")
    return Teacher(**json.loads(path.read_text(encoding="utf-8")))


def sha256_of_weights(folder: Path) -> str | None:
    """One hash over a folder's safetensors files, in name order; None when it has none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return None
    if len(files) == 1:
        return sha256(files[0])
    return hashlib.sha256("".join(sha256(file) for file in files).encode()).hexdigest()
