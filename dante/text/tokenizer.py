"""A model's tokenizer, without network and without remote code."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from dante.models.folder import local_folder
from dante.models.gguf_file import gguf_path, is_gguf
from dante.models.pretrained import STUDENT_SOURCE, told


def load_tokenizer(
    folder: str | Path, revision: str | None = None, where: str = STUDENT_SOURCE
) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face folder, a hub id or a GGUF file.

    Raises:
        DanteError: it is not on this machine and cannot be fetched, or its files are damaged.
    """
    packed = {}
    if is_gguf(folder):
        path = gguf_path(folder, where)
        folder, packed = path.parent, {"gguf_file": path.name}
    name = local_folder(folder) or folder
    with told(f"the tokenizer of {str(folder)!r} cannot be loaded", folder, where):
        return AutoTokenizer.from_pretrained(str(name), revision=revision or "main", trust_remote_code=False, **packed)
