"""What a teacher's sparse blocks saw and said, in files: one per packed row, found by record.

kept.json                  teacher, layers, whom the texts were rendered for
blocks-00012.safetensors   ids [tokens], inputs and outputs [layers, tokens, width] in bf16; header: records and lengths

Files are mapped into memory, and only the rows of a record are read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from dante.errors import DanteError
from dante.system.files import read_json, write_bytes, write_json

_MANIFEST = "kept.json"
_BYTES = 2  # bf16


@dataclass(frozen=True)
class KeptRecord:
    """Where a record lies.

    Attributes:
        file: number of the row's file.
        first: its first token in that row.
        tokens: how many.
    """

    file: int
    first: int
    tokens: int


class KeptBlocks:
    """A step's folder, being written or finished.

    Args:
        folder: of the step.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, number: int) -> bool:
        """Whether a row's file is there; each is whole or not there."""
        return self._file(number).is_file()

    def add(
        self,
        number: int,
        records: Sequence[tuple[str, int]],
        ids: Int64[Tensor, " tokens"],
        seen: Sequence[tuple[Float[Tensor, "tokens width"], Float[Tensor, "tokens width"]]],
    ) -> None:
        """Write a row.

        Args:
            number: of the row.
            records: id and tokens of each, in the order of the row.
            ids: of the row's tokens.
            seen: input and output of every sparse block.
        """
        inputs, outputs = (torch.stack([pair[side] for pair in seen]).bfloat16().cpu() for side in (0, 1))
        tensors = {"ids": ids.to(torch.int32).cpu(), "inputs": inputs, "outputs": outputs}
        write_bytes(self._file(number), save(tensors, {"records": json.dumps([list(record) for record in records])}))

    def seal(self, manifest: dict[str, Any]) -> None:
        """Everything is there."""
        write_json(self.folder / _MANIFEST, manifest)

    @property
    def manifest(self) -> dict[str, Any]:
        """What `seal` was given.

        Raises:
            DanteError: the folder holds no kept blocks, or they are not complete.
        """
        if not (self.folder / _MANIFEST).is_file():
            raise DanteError(
                f"no {_MANIFEST}: nothing was kept here, or not to the end",
                where=str(self.folder),
                allowed="a finished step of the stage `blocks`",
                fix="run the recipe that has one: +experiment=laguna_dense recipe=laguna_dense_kept",
            )
        content: dict[str, Any] = read_json(self.folder / _MANIFEST)
        return content

    def records(self) -> dict[str, KeptRecord]:
        """Where every record lies."""
        found = {}
        for path in sorted(self.folder.glob("blocks-*.safetensors")):
            number, first = int(path.stem.removeprefix("blocks-")), 0
            with safe_open(path, framework="pt") as file:
                for identity, tokens in json.loads(file.metadata()["records"]):
                    found[identity] = KeptRecord(number, first, tokens)
                    first += tokens
        return found

    def read(
        self, record: KeptRecord
    ) -> tuple[Int64[Tensor, " tokens"], Float[Tensor, "layers tokens width"], Float[Tensor, "layers tokens width"]]:
        """A record's token ids, and input and output of every block."""
        part = slice(record.first, record.first + record.tokens)
        with safe_open(self._file(record.file), framework="pt") as file:
            ids = file.get_slice("ids")[part]
            inputs, outputs = (file.get_slice(name)[:, part] for name in ("inputs", "outputs"))
        return ids.long(), inputs, outputs

    def _file(self, number: int) -> Path:
        return self.folder / f"blocks-{number:05d}.safetensors"


def kept_bytes(tokens: int, layers: int, width: int) -> int:
    """On disk: input and output of every block in bf16, and the ids."""
    return tokens * (2 * layers * width * _BYTES + 4)
