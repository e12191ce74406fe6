"""What a model says of a cache's answers, token by token, in files of one batch of records each.

likelihood.json               of how many records and tokens
speed.json                    how many tokens were read in how many seconds, over all attempts
likelihood-00000.safetensors  per token `nats` (−log p, fp32), `rank` (1 is the most likely) and `end` (in the UTF-8
                              bytes of the answer); per record its first token (`rows`); ids and texts in the metadata

The end of the turn is no token here: teachers do not record it, and a sentence does not hold it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dante.cache.records.record import Record, stable_hash
from dante.errors import DanteError
from dante.system.files import read_json, write_bytes, write_json

MANIFEST = "likelihood.json"


@dataclass(frozen=True)
class Likelihood:
    """A model's side of one answer.

    Attributes:
        identity: of the record.
        text: hash of its answer.
        nats: −log p of each token.
        rank: place of each token in the next-token distribution, from 1.
        end: where each token ends in the UTF-8 bytes of the answer.
    """

    identity: str
    text: str
    nats: Float32[np.ndarray, " tokens"]
    rank: Int32[np.ndarray, " tokens"]
    end: Int32[np.ndarray, " tokens"]


def text_of(record: Record) -> str:
    """What a likelihood was made for, prompt and answer."""
    return stable_hash(record.prompt, record.teacher_text)


class LikelihoodFiles:
    """A step's folder, being written or finished.

    Args:
        folder: of the step.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, number: int, rows: Sequence[Likelihood]) -> None:
        """Write one batch, whole or not at all; the same rows are the same bytes."""
        starts = np.cumsum([0, *(len(row.nats) for row in rows)], dtype=np.int64)
        tensors = {
            "nats": np.concatenate([row.nats for row in rows]),
            "rank": np.concatenate([row.rank for row in rows]),
            "end": np.concatenate([row.end for row in rows]),
            "rows": starts,
        }
        said = {"ids": [row.identity for row in rows], "texts": [row.text for row in rows]}
        write_bytes(self._path(number), save(tensors, {"records": json.dumps(said)}))

    def holds(self, number: int, records: Sequence[Record]) -> bool:
        """Whether a batch is there, whole, and of these very records."""
        try:
            found = [(row.identity, row.text) for row in self._rows(number)]
        except (OSError, SafetensorError, KeyError, ValueError):
            return False
        return found == [(record.id, text_of(record)) for record in records]

    def seal(self, manifest: dict[str, Any]) -> None:
        """Everything is there."""
        write_json(self.folder / MANIFEST, manifest)

    @property
    def manifest(self) -> dict[str, Any]:
        """What `seal` was given."""
        content: dict[str, Any] = read_json(self.folder / MANIFEST)
        return content

    def of(self, records: Sequence[Record]) -> list[Likelihood]:
        """One per record, in their order.

        Raises:
            DanteError: a record was not scored, or with another text.
        """
        rows = {row.identity: row for row in self.rows(self.manifest["batches"])}
        for record in records:
            if record.id not in rows or rows[record.id].text != text_of(record):
                raise DanteError(
                    f"record {record.id} was not scored" + (" with this text" if record.id in rows else ""),
                    where=str(self.folder),
                    allowed="likelihoods of the very cache that is selected from",
                    fix="score it again: on_existing=overwrite",
                )
        return [rows[record.id] for record in records]

    def rows(self, batches: int) -> Iterator[Likelihood]:
        """Of all records of so many batches."""
        for number in range(batches):
            yield from self._rows(number)

    def _path(self, number: int) -> Path:
        return self.folder / f"likelihood-{number:05d}.safetensors"

    def _rows(self, number: int) -> Iterator[Likelihood]:
        with safe_open(self._path(number), framework="np") as file:
            said = json.loads(file.metadata()["records"])
            nats, rank, end, rows = (file.get_tensor(name) for name in ("nats", "rank", "end", "rows"))
        for index, (identity, text) in enumerate(zip(said["ids"], said["texts"], strict=True)):
            cut = slice(rows[index], rows[index + 1])
            yield Likelihood(identity, text, nats[cut], rank[cut], end[cut])
