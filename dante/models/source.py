"""Where a student's weights come from, as far as it is known without loading anything: for plan and identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dante.models.folder import front_matter, local_folder
from dante.models.gguf_file import facts_of, gguf_path, is_gguf
from dante.models.outside import file_identity, model_identity
from dante.models.pretrained import STUDENT_SOURCE

TEACHER = "teacher"


def folder_of(source: str) -> Path | None:
    """The local folder that `student.source` names; None for the teacher, a GGUF file and a hub id."""
    return None if source == TEACHER or is_gguf(source) else local_folder(source)


def content_identity(settings: dict[str, Any]) -> Any:
    """A local folder or file is its content, not its path; a hub id is its revision, the teacher a step of its own."""
    if is_gguf(settings["source"]):
        return file_identity(gguf_path(settings["source"], STUDENT_SOURCE))
    folder = folder_of(settings["source"])
    return None if folder is None else model_identity(folder)


def name_of(source: str) -> str:
    """What a model is called after the folder, file, or hub id, it comes from."""
    if is_gguf(source):
        return Path(source).stem
    folder = folder_of(source)
    return (folder.resolve().name if folder else source.rsplit("/", 1)[-1]) or source


def licence_of(source: str) -> str:
    """What the folder's model card, or the file, says; `unknown` where it says nothing."""
    if is_gguf(source):
        return facts_of(gguf_path(source, STUDENT_SOURCE)).licence
    folder = folder_of(source)
    return str((front_matter(folder) if folder else {}).get("license") or "unknown")
