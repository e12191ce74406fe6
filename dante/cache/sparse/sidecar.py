"""Sparse logits beside a cache: `logits-<kind>-00000.safetensors`, rows of a record found by its id.

A file holds the rows of some records one after the other (`payload`, `numbers`), where each record's rows end
(`token_ends`), the records' ids, and a hash of each one's text. Rows are the teacher's tokens of the answer and the
end-of-turn token. Files are written whole and never changed; more records come in more files.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from dante.cache.records.record import Record
from dante.cache.sparse.kinds import KINDS, Kind, Sparse
from dante.errors import DanteError
from dante.system.files import write_bytes

SCHEMA_VERSION = 1
HASH_BYTES = 8


@dataclass(frozen=True)
class Header:
    """What all files of one kind beside a cache have in common.

    Attributes:
        kind: `topk_tail` or `random_sampling`.
        size: K or N.
        vocabulary: of the teacher.
        teacher: SHA-256 of its weights, or `model@revision`.
        tokenizer: hash of its tokenizer and template.
        seed: of draws.
    """

    kind: str
    size: int
    vocabulary: int
    teacher: str
    tokenizer: str
    seed: int

    def codec(self) -> Kind:
        return KINDS[self.kind](self.size, self.vocabulary)


def text_hash(record: Record) -> bytes:
    """Of prompt and answer: rows belong to exactly these."""
    content = json.dumps([record.prompt, record.teacher_text], ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8")).digest()[:HASH_BYTES]


def file_name(kind: str, number: int) -> str:
    return f"logits-{kind}-{number:05d}.safetensors"


def write_file(path: Path, header: Header, rows: list[tuple[Record, Sparse]]) -> None:
    """Writes one file; it is there completely or not at all, and its bytes depend on header and rows alone."""
    codec = header.codec()
    encoded = [codec.encode(kept) for _, kept in rows]
    names = [record.id.encode("utf-8") for record, _ in rows]
    tensors = {
        "payload": np.concatenate([payload for payload, _ in encoded]),
        "numbers": np.concatenate([numbers for _, numbers in encoded]),
        "token_ends": np.cumsum([len(numbers) for _, numbers in encoded], dtype=np.int64),
        "payload_ends": np.cumsum([len(payload) for payload, _ in encoded], dtype=np.int64),
        "ids": np.frombuffer(b"".join(names), dtype=np.uint8),
        "id_ends": np.cumsum([len(name) for name in names], dtype=np.int64),
        "text_hashes": np.frombuffer(b"".join(text_hash(record) for record, _ in rows), dtype=np.uint8),
    }
    # One entry, because safetensors writes several in an order of its own.
    metadata = {"dante": json.dumps({"schema_version": SCHEMA_VERSION, **vars(header)}, sort_keys=True)}
    write_bytes(path, save(tensors, metadata))


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
        self.paths = sorted(self.directory.glob(f"logits-{kind}-*.safetensors"))
        if not self.paths:
            raise DanteError(
                f"no {kind} logits beside the cache",
                where=str(directory),
                fix=f"python -m dante.cache logits {directory} --teacher TEACHER --kind {kind}",
            )
        self._files = [_open(path) for path in self.paths]
        headers = [_header(file, path) for file, path in zip(self._files, self.paths, strict=True)]
        self.header = headers[0]
        for header, path in zip(headers, self.paths, strict=True):
            check_same(self.header, header, path)
        self._codec = self.header.codec()
        self._places: dict[str, tuple[int, int]] = {}
        for number, file in enumerate(self._files):
            raw, start = file.get_tensor("ids").tobytes(), 0
            for row, end in enumerate(file.get_tensor("id_ends").tolist()):
                self._places[raw[start:end].decode("utf-8")] = (number, row)
                start = end

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._places

    @property
    def tokens(self) -> int:
        return sum(file.get_slice("numbers").get_shape()[0] for file in self._files)

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
        number, row = self._places[record.id]
        file = self._files[number]
        stored = file.get_slice("text_hashes")[row * HASH_BYTES : (row + 1) * HASH_BYTES].tobytes()
        if stored != text_hash(record):
            raise DanteError(
                f"the logits of record {record.id} were made for another text",
                where=str(self.paths[number]),
                fix="delete the file and make its logits again",
            )
        payload, numbers = _range(file, "payload_ends", row), _range(file, "token_ends", row)
        return self._codec.decode(
            file.get_slice("payload")[payload[0] : payload[1]], file.get_slice("numbers")[numbers[0] : numbers[1]]
        )


def check_same(expected: Header, found: Header, path: Path) -> None:
    """Refuses to mix what was made with different teachers, tokenizers or settings."""
    different = [f"{k}: {v} → {getattr(found, k)}" for k, v in vars(expected).items() if getattr(found, k) != v]
    if different:
        raise DanteError(
            f"logits of another making: {'; '.join(different)}",
            where=str(path),
            fix="use another folder, or delete what is there",
        )


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except Exception as error:  # safetensors raises an exception type of its own
        raise DanteError(f"the file is damaged ({error})", where=str(path), fix="delete it and make it again") from None


def _header(file: Any, path: Path) -> Header:
    content = json.loads((file.metadata() or {}).get("dante", "{}"))
    if content.pop("schema_version", None) != SCHEMA_VERSION:
        raise DanteError("not sparse logits of this version", where=str(path), fix="make them again")
    return Header(**content)


def _range(file: Any, name: str, row: int) -> tuple[int, int]:
    """Where row `row` begins and ends, of a tensor of ends."""
    ends = file.get_slice(name)
    before = int(ends[row - 1 : row][0]) if row else 0
    return before, int(ends[row : row + 1][0])
