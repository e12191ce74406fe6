"""One file of sparse logits: `logits-<kind>-00000.safetensors`, the rows of some records one after the other.

`payload` and `numbers` hold the rows, `token_ends` and `payload_ends` where each record's end, `ids` and `text_hashes`
whose they are. A file is there completely or not at all, and its bytes depend on header and rows alone.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from safetensors import safe_open
from safetensors.numpy import save

from dante.cache.records.record import Record
from dante.cache.sparse.kinds import KINDS, Kind, Sparse
from dante.errors import DanteError
from dante.system.files import write_bytes

SCHEMA_VERSION = 1
HASH_BYTES = 8
END_BYTES = 8  # of an entry of `token_ends`, `payload_ends` or `id_ends`


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


@dataclass(frozen=True)
class Encoded:
    """The rows of one record as a file holds them.

    Attributes:
        record_id: whose they are.
        text_hash: see `text_hash`.
        payload: the coded rows.
        numbers: ids that each row keeps, one entry per token.
    """

    record_id: str
    text_hash: bytes
    payload: UInt8[ndarray, " bytes"]
    numbers: UInt8[ndarray, " tokens"]

    @property
    def file_bytes(self) -> int:
        """What the record adds to a file."""
        name = len(self.record_id.encode("utf-8"))
        return len(self.payload) + len(self.numbers) + name + HASH_BYTES + 3 * END_BYTES


def encode(header: Header, record: Record, kept: Sparse) -> Encoded:
    """A record's distributions → what a file holds of them."""
    return Encoded(record.id, text_hash(record), *header.codec().encode(kept))


def text_hash(record: Record) -> bytes:
    """Of prompt and answer: rows belong to exactly these."""
    content = json.dumps([record.prompt, record.teacher_text], ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8")).digest()[:HASH_BYTES]


def file_name(kind: str, number: int) -> str:
    return f"logits-{kind}-{number:05d}.safetensors"


def file_paths(directory: Path, kind: str) -> list[Path]:
    """The files of a kind, in the order of their numbers."""
    return sorted(directory.glob(f"logits-{kind}-*.safetensors"))


def write_file(path: Path, header: Header, rows: Sequence[tuple[Record, Sparse]]) -> None:
    """Writes the distributions of some records."""
    write_encoded(path, header, [encode(header, record, kept) for record, kept in rows])


def write_encoded(path: Path, header: Header, rows: Sequence[Encoded]) -> None:
    """Writes what is encoded already; on return the file's content is on the disk."""
    names = [row.record_id.encode("utf-8") for row in rows]
    tensors = {
        "payload": np.concatenate([row.payload for row in rows]),
        "numbers": np.concatenate([row.numbers for row in rows]),
        "token_ends": np.cumsum([len(row.numbers) for row in rows], dtype=np.int64),
        "payload_ends": np.cumsum([len(row.payload) for row in rows], dtype=np.int64),
        "ids": np.frombuffer(b"".join(names), dtype=np.uint8),
        "id_ends": np.cumsum([len(name) for name in names], dtype=np.int64),
        "text_hashes": np.frombuffer(b"".join(row.text_hash for row in rows), dtype=np.uint8),
    }
    # One entry, because safetensors writes several in an order of its own.
    metadata = {"dante": json.dumps({"schema_version": SCHEMA_VERSION, **vars(header)}, sort_keys=True)}
    write_bytes(path, save(tensors, metadata))


class SidecarFile:
    """A file, read lazily: opening costs the ids, a record costs its own rows.

    Args:
        path: the file.

    Raises:
        DanteError: it is damaged, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: Any = safe_open(path, framework="numpy")
        except Exception as error:  # safetensors raises an exception type of its own
            raise DanteError(
                f"the file is damaged ({error})", where=str(path), fix="delete it and make it again"
            ) from None
        content = json.loads((self._file.metadata() or {}).get("dante", "{}"))
        if content.pop("schema_version", None) != SCHEMA_VERSION:
            raise DanteError("not sparse logits of this version", where=str(path), fix="make them again")
        self.header = Header(**content)
        raw, ends = self._file.get_tensor("ids").tobytes(), self._file.get_tensor("id_ends").tolist()
        self.ids = [raw[start:end].decode("utf-8") for start, end in zip([0, *ends], ends, strict=False)]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> Encoded:
        if not 0 <= place < len(self):
            raise IndexError(place)
        hashes = self._file.get_slice("text_hashes")[place * HASH_BYTES : (place + 1) * HASH_BYTES]
        payload, numbers = self._range("payload_ends", place), self._range("token_ends", place)
        return Encoded(
            self.ids[place],
            hashes.tobytes(),
            self._file.get_slice("payload")[payload[0] : payload[1]],
            self._file.get_slice("numbers")[numbers[0] : numbers[1]],
        )

    def text_hashes(self) -> list[bytes]:
        """One per record."""
        raw = self._file.get_tensor("text_hashes").tobytes()
        return [raw[start : start + HASH_BYTES] for start in range(0, len(raw), HASH_BYTES)]

    @property
    def tokens(self) -> int:
        return int(self._file.get_slice("numbers").get_shape()[0])

    def _range(self, name: str, place: int) -> tuple[int, int]:
        """Where a record's part begins and ends, of a tensor of ends."""
        ends = self._file.get_slice(name)
        before = int(ends[place - 1 : place][0]) if place else 0
        return before, int(ends[place : place + 1][0])
