"""A teacher that already exists: a hub id, or a folder of the user's."""

from pathlib import Path
from typing import Any

from dante.models.folder import check_folder, local_folder
from dante.models.outside import model_identity
from dante.teachers.teacher import SOURCE, Teacher, sha256_of_weights


class HubTeacher:
    """Points at a model; nothing is downloaded here.

    Args:
        model: a hub id (`org/name`) or the path of a Hugging Face folder.
        revision: hub revision (commit, tag or branch); None for a folder.
        licence: SPDX identifier, or the licence's name.
    """

    def __init__(self, model: str, revision: str | None, licence: str) -> None:
        self.model, self.revision, self.licence = model, revision, licence

    def identity(self) -> dict[str, Any] | None:
        """Size and hash of a local folder's files; None for a hub id, whose revision is its identity."""
        folder = local_folder(self.model)
        return None if folder is None else model_identity(folder)

    def make(self, out: Path) -> Teacher:
        """Writes `teacher.json` under `out`.

        Raises:
            DanteError: the folder holds no model that can be read, see `check_folder`.
        """
        model_folder = local_folder(self.model)
        if model_folder is not None:
            folder = model_folder.resolve()
            check_folder(folder, SOURCE)
            has_template = (folder / "chat_template.jinja").is_file() or '"chat_template"' in _text(
                folder / "tokenizer_config.json"
            )
            digest = sha256_of_weights(folder)
            teacher = Teacher(folder.name, str(folder), True, self.revision, self.licence, digest, has_template)
        else:
            name = self.model.rsplit("/", 1)[-1]
            teacher = Teacher(name, self.model, False, self.revision, self.licence, None, chat_template=True)
        teacher.write(out)
        return teacher


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
