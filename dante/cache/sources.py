"""Where prompts come from: our own generator, a file of the user's, a dataset, a generator of puzzles."""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dante.cache.reader import read_lines
from dante.cache.record import FieldError, check_prompt
from dante.errors import DanteError
from dante.teachers.prompts import Prompt, build_prompts

SLICES = (("domain", "general"), ("language", "en"), ("family", "given"))


@runtime_checkable
class Prompts(Protocol):
    """A source of prompts, and where they may be used."""

    licence: str

    def load(self) -> list[Prompt]: ...


class PocketPrompts:
    """Our own prompts (see `dante.teachers.prompts`).

    Args:
        count: how many; null takes all.
        seed: of their order and of generated numbers.
    """

    licence = "Apache-2.0 (our own)"

    def __init__(self, count: int | None, seed: int) -> None:
        self.count, self.seed = count, seed

    def load(self) -> list[Prompt]:
        return build_prompts(self.count, self.seed)


class JsonlPrompts:
    """A JSONL file with `prompt` (text or messages) per line and, if known, `domain`, `language`, `family`, `prefix`.

    Args:
        path: the file, `.jsonl` or `.jsonl.zst`.
        licence: under which its prompts may be used.
    """

    def __init__(self, path: str, licence: str) -> None:
        self.path, self.licence = Path(path).expanduser(), licence

    def load(self) -> list[Prompt]:
        return _all(self._rows(), str(self.path))

    def _rows(self) -> Iterator[tuple[str, Any]]:
        _check_file(self.path)
        for number, line in read_lines(self.path):
            where = f"{self.path}, line {number}"
            try:
                yield where, json.loads(line)
            except ValueError as error:
                raise DanteError(f"the line is not JSON ({error})", where=where) from None


class ParquetPrompts:
    """A Parquet file with the columns of `JsonlPrompts`.

    Args:
        path: the file.
        field: column of the prompts.
        licence: under which its prompts may be used.
        count: the first so many rows; null: all.
    """

    def __init__(self, path: str, field: str, licence: str, count: int | None) -> None:
        self.path, self.field, self.licence, self.count = Path(path).expanduser(), field, licence, count

    def load(self) -> list[Prompt]:
        return _all(_first(self._rows(), self.count), str(self.path))

    def _rows(self) -> Iterator[tuple[str, Any]]:
        import pyarrow.parquet as parquet

        _check_file(self.path)
        file = parquet.ParquetFile(self.path)
        _check_column(self.field, file.schema_arrow.names, str(self.path))
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{self.path}, row {number}", {**row, "prompt": row[self.field]}


class DatasetPrompts:
    """A dataset of the Hugging Face hub, or one saved to a folder.

    Args:
        id: hub id, or a folder.
        config: configuration of the dataset, or null.
        split: e.g. `train`.
        field: column of the prompts.
        revision: commit, tag or branch; null: the newest.
        licence: under which its prompts may be used.
        count: the first so many rows; null: all.
        domain: slice that its prompts belong to.
        characters: prompts are cut there, at white space: pages of text make long ones; null keeps them whole.
    """

    def __init__(
        self,
        id: str,
        config: str | None,
        split: str,
        field: str,
        revision: str | None,
        licence: str,
        count: int | None,
        domain: str,
        characters: int | None,
    ) -> None:
        self.id, self.config, self.split, self.field = id, config, split, field
        self.revision, self.licence, self.count = revision, licence, count
        self.domain, self.characters = domain, characters

    def load(self) -> list[Prompt]:
        return _all(_first(self._rows(), self.count), self.id)

    def _rows(self) -> Iterator[tuple[str, Any]]:
        import datasets

        folder = Path(self.id).expanduser()
        try:
            if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
                loaded: Any = datasets.load_from_disk(str(folder))
                table: Any = loaded[self.split] if isinstance(loaded, datasets.DatasetDict) else loaded
            else:
                table = datasets.load_dataset(
                    self.id, self.config, split=self.split, revision=self.revision, streaming=self.count is not None
                )
        except (OSError, ValueError, KeyError, ConnectionError) as error:
            raise DanteError(
                f"the dataset {self.id!r} cannot be loaded: {str(error).strip().splitlines()[0]}",
                where="cache.source.prompts",
                fix="save_to_disk it where there is a network and name the folder, or correct id, config and split",
            ) from None
        if table.column_names is not None:
            _check_column(self.field, table.column_names, self.id)
        for number, row in enumerate(table, start=1):
            prompt = row[self.field]
            if isinstance(prompt, str) and self.characters is not None and len(prompt) > self.characters:
                prompt = prompt[: self.characters].rsplit(None, 1)[0]
            yield f"{self.id}, row {number}", {"domain": self.domain, **row, "prompt": prompt}


class ReasoningGymPrompts:
    """Puzzles with one right answer, made by the package `reasoning-gym`.

    Args:
        tasks: names of its tasks.
        count: prompts of each.
        seed: of the puzzles.
        licence: of the package.
    """

    def __init__(self, tasks: list[str], count: int, seed: int, licence: str) -> None:
        self.tasks, self.count, self.seed, self.licence = tasks, count, seed, licence

    def load(self) -> list[Prompt]:
        try:
            import reasoning_gym
        except ModuleNotFoundError:
            raise DanteError(
                "the package reasoning-gym is not installed",
                where="cache.source.prompts",
                fix="pip install 'dante[puzzles]'",
            ) from None
        prompts = []
        for task in self.tasks:
            try:
                made = reasoning_gym.create_dataset(task, size=self.count, seed=self.seed)
            except (ValueError, KeyError) as error:
                raise DanteError(
                    f"reasoning-gym: {error}", where="cache.source.prompts.tasks", fix="see its list"
                ) from None
            prompts += [Prompt(item["question"], "reasoning", "en", task) for item in made]
        return prompts


def _all(rows: Iterable[tuple[str, Any]], where: str) -> list[Prompt]:
    """Checked prompts of (place, row) pairs; an empty source is an error."""
    prompts = []
    for place, row in rows:
        try:
            check_prompt(row.get("prompt") if isinstance(row, dict) else None)
        except FieldError as error:
            raise DanteError(str(error), where=place, allowed=error.allowed) from None
        domain, language, family = (str(row.get(n) or d) for n, d in SLICES)
        prefix = row.get("prefix") or ""
        if not isinstance(prefix, str):
            raise DanteError(f"prefix is {prefix!r}", where=place, allowed="text")
        prompts.append(Prompt(row["prompt"], domain, language, family, prefix))
    if not prompts:
        raise DanteError("there are no prompts", where=where)
    return prompts


def _first(rows: Iterator[tuple[str, Any]], count: int | None) -> Iterator[tuple[str, Any]]:
    return rows if count is None else itertools.islice(rows, count)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise DanteError(f"no prompt file at {path}", where="cache.source.prompts.path", fix="correct the path")


def _check_column(field: str, columns: Sequence[str], where: str) -> None:
    if field not in columns:
        raise DanteError(
            f"no column {field!r}", where=where, allowed=", ".join(columns), fix="cache.source.prompts.field=…"
        )
