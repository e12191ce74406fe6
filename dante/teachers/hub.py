"""A teacher that already exists: a hub id, or a folder of the user's."""

from pathlib import Path

from dante.errors import DanteError
from dante.teachers.handle import Teacher, sha256_of_weights


class HubTeacher:
    """Points at a model; nothing is downloaded here.

    Args:
        model: a hub id (`org/name`) or the path of a Hugging Face folder. A path starts with `/`, `.` or `~`.
        revision: hub revision (commit, tag or branch); None for a folder.
        licence: SPDX identifier, or the licence's name.
    """

    def __init__(self, model: str, revision: str | None, licence: str) -> None:
        self.model, self.revision, self.licence = model, revision, licence

    def make(self, out: Path) -> Teacher:
        """Writes `teacher.json` under `out`."""
        if self.model.startswith(("/", ".", "~")):
            folder = Path(self.model).expanduser().resolve()
            if not (folder / "config.json").is_file():
                raise DanteError(
                    f"no Hugging Face model at {folder}",
                    where="teacher.make.model",
                    allowed="a folder with config.json and *.safetensors, or a hub id such as org/name",
                )
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
