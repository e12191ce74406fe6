"""A teacher out of a GGUF file, as llama.cpp and its relatives keep models: dequantised once into an ordinary folder.

Tokenizer and chat template come out of the file. The weights are stored in bfloat16: that is the type in which models
are published and in which every engine runs them, so all see the very same numbers; its rounding (relative 2^-9) is far
below the quantisation that the file already went through, and the folder is half as big.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.models.gguf_file import facts_of, gguf_path
from dante.models.outside import file_identity
from dante.teachers.teacher import Teacher

WHERE = "teacher.gguf"


class GgufTeacher:
    """Turns a GGUF file into `out/model/`.

    Args:
        file: path of the file, or `package:NAME/FILE`.
        licence: SPDX identifier of the weights; None: what the file says.
        sha256: hash that the file must have; None: any, and it is recorded.
    """

    def __init__(self, file: str, licence: str | None, sha256: str | None) -> None:
        self.file, self.licence, self.sha256 = file, licence, sha256

    def identity(self) -> dict[str, Any]:
        """Size and hash of the file."""
        return file_identity(gguf_path(self.file, WHERE))

    def parameters(self) -> float | None:
        """Of the model in the file, told without reading its weights; None for a mixture of experts."""
        facts = facts_of(gguf_path(self.file, WHERE))
        return None if facts.experts else float(facts.parameters)

    def make(self, out: Path) -> Teacher:
        """Writes `model/` and `teacher.json` under `out`; what an interrupted attempt left is replaced.

        Raises:
            DanteError: there is no such file, it has another hash, cannot be dequantised, or has no chat template.
        """
        path = gguf_path(self.file, WHERE)
        digest = checked_hash(path, self.sha256, f"{WHERE}, teacher.make.sha256", "name the file that was meant")
        dequantise(path, out, WHERE)
        facts = facts_of(path)
        licence = facts.licence if self.licence is None else self.licence
        teacher = Teacher(path.stem, "model", True, None, licence, digest, chat_template=True)
        teacher.write(out)
        return teacher


def checked_hash(path: Path, wanted: str | None, where: str, fix: str) -> str:
    """SHA-256 of a file.

    Raises:
        DanteError: another one is wanted.
    """
    digest: str = file_identity(path)["sha256"]
    if wanted is not None and digest != wanted:
        raise DanteError(f"{path.name} has SHA-256 {digest}", where=where, allowed=wanted, fix=fix)
    return digest


def dequantise(path: Path, out: Path, where: str) -> None:
    """Write a GGUF file as a Hugging Face folder `out/model`, in bfloat16.

    Args:
        path: of the file.
        out: folder of a teacher step.
        where: the key that names it, for messages.

    Raises:
        DanteError: it cannot be dequantised, or carries no chat template.
    """
    import torch
    from transformers import GenerationConfig

    from dante.models.pretrained import load_causal_lm, source_of
    from dante.text.tokenizer import load_tokenizer

    folder, partial = out / "model", out / "model.partial"
    for leftover in (folder, partial):
        shutil.rmtree(leftover, ignore_errors=True)
    tokenizer: Any = load_tokenizer(path, where=where)
    if tokenizer.chat_template is None:
        raise DanteError(
            f"{path.name} carries no chat template",
            where=where,
            allowed="a model that answers in turns",
            fix="take the file of the instruct model",
        )
    model = load_causal_lm(source_of(path, where), torch.bfloat16)
    eos, pad, bos = tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id
    model.generation_config = GenerationConfig(bos_token_id=bos, eos_token_id=eos, pad_token_id=pad, do_sample=False)
    model.config.eos_token_id, model.config.pad_token_id, model.config.bos_token_id = eos, pad, bos
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    os.replace(partial, folder)
