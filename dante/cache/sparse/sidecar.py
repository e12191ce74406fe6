"""Sparse logits beside a cache: files of one making, in which the rows of a record are found by its id.

Rows are the teacher's tokens of the answer and the end-of-turn token. Full files never change; more records fill the
last one and go into more.
"""

import shlex
from pathlib import Path

from dante import console
from dante.cache.records.manifest import FILE_NAME, load_manifest
from dante.cache.records.record import Record
from dante.cache.sparse.files import Header, SidecarFile, file_name, file_paths, text_hash, write_file
from dante.cache.sparse.kinds import KINDS, Sparse
from dante.errors import DanteError
from dante.teachers.teacher import FILE_NAME as TEACHER_FILE
from dante.teachers.teacher import load_teacher

__all__ = ["Header", "SparseLogits", "check_same", "file_name", "how_to_make", "write_file"]


class SparseLogits:
    """Sparse logits of a cache, read lazily: opening costs the ids, a record costs its own rows.

    Args:
        directory: where the files lie.
        kind: `topk_tail` or `random_sampling`.

    Raises:
        DanteError: there are none, a file is damaged, or files differ in what they were made with.
    """

    def __init__(self, directory: Path | str, kind: str) -> None:
        self.directory = Path(directory)
        if kind not in KINDS:
            raise DanteError(f"unknown kind {kind!r}", where=str(directory), allowed=", ".join(KINDS))
        self.paths = file_paths(self.directory, kind)
        if not self.paths:
            raise DanteError(
                f"no {kind} logits beside the cache", where=str(directory), fix=how_to_make(self.directory, kind)
            )
        self._files = [SidecarFile(path) for path in self.paths]
        self.header = self._files[0].header
        for file in self._files:
            check_same(self.header, file.header, file.path, "use another folder, or delete what is there")
        self._codec = self.header.codec()
        self._places = {
            identity: (number, place)
            for number, file in enumerate(self._files)
            for place, identity in enumerate(file.ids)
        }

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._places

    @property
    def tokens(self) -> int:
        return sum(file.tokens for file in self._files)

    @property
    def bytes_per_token(self) -> float:
        """Size of the files over the tokens in them: ids, hashes and headers included."""
        return sum(path.stat().st_size for path in self.paths) / self.tokens

    def for_record(self, record: Record) -> Sparse:
        """The rows of a record: the teacher's tokens of its answer, then the end-of-turn token.

        Raises:
            DanteError: it has none, or they were made for another text.
        """
        if record.id not in self._places:
            raise DanteError(f"record {record.id} has no {self.header.kind} logits", where=str(self.directory))
        number, place = self._places[record.id]
        found = self._files[number][place]
        if found.text_hash != text_hash(record):
            raise DanteError(
                f"the logits of record {record.id} were made for another text",
                where=str(self.paths[number]),
                fix="delete the file and make its logits again",
            )
        return self._codec.decode(found.payload, found.numbers)


def check_same(expected: Header, found: Header, path: Path, fix: str) -> None:
    """Refuses to mix what was made with different teachers, tokenizers or settings."""
    different = [f"{k}: {v} → {getattr(found, k)}" for k, v in vars(expected).items() if getattr(found, k) != v]
    if different:
        raise DanteError(f"logits of another making: {'; '.join(different)}", where=str(path), fix=fix)


def how_to_make(cache: Path, kind: str, folder: Path | None = None) -> str:
    """The command that makes the logits of a cache, or goes on with them.

    It names the cache's own teacher where that lies beside the cache, as it does in a run and in the store of runs.

    Args:
        cache: the cache.
        kind: `topk_tail` or `random_sampling`.
        folder: where the files lie; None: beside the cache.
    """
    teacher = next(map(_typed, _teachers_beside(cache)), "TEACHER_STEP")
    out = f" --out {_typed(folder)}" if folder is not None else ""
    return f"python -m dante.cache sparse {_typed(cache)} --teacher {teacher} --kind {kind}{out}"


def _typed(path: Path) -> str:
    return shlex.quote(console.short(path))


def _teachers_beside(cache: Path) -> list[Path]:
    if not (cache / FILE_NAME).is_file():
        return []
    written = (load_manifest(cache).get("teacher") or {}).get("sha256")
    folders = [path.parent for path in sorted(cache.absolute().parent.glob(f"teacher*/{TEACHER_FILE}"))]
    finished = [folder for folder in folders if folder.suffix != ".partial"]
    return [folder for folder in finished if load_teacher(folder).sha256 == written]
