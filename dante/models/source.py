"""Where a student's weights come from, as far as it is known without loading anything: for plan and identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dante.models.folder import front_matter, local_folder
from dante.models.outside import model_identity

TEACHER = "teacher"


def folder_of(source: str) -> Path | None:
    """The local folder that `student.source` names; None for the teacher and for a hub id."""
    return None if source == TEACHER else local_folder(source)


def content_identity(settings: dict[str, Any]) -> Any:
    """A local folder is its files, not its path; a hub id is its revision, the teacher a step of its own."""
    folder = folder_of(settings["source"])
    return None if folder is None else model_identity(folder)


def name_of(source: str) -> str:
    """What a student is called after the folder, or hub id, it comes from."""
    folder = folder_of(source)
    return (folder.resolve().name if folder else source.rsplit("/", 1)[-1]) or source


def licence_of(source: str) -> str:
    """What the folder's model card says; `unknown` where it says nothing."""
    folder = folder_of(source)
    return str((front_matter(folder) if folder else {}).get("license") or "unknown")
