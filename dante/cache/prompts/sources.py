"""Where prompts come from: our own generator, a file of the user's, a dataset, a generator of puzzles."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dante.cache.prompts import coder
from dante.cache.prompts.dataset import DatasetPrompts
from dante.cache.prompts.pocket import Prompt, build_prompts
from dante.cache.prompts.reasoning_gym import puzzles_of
from dante.cache.prompts.rows import check_column, check_count, check_file, check_licence, row_of, to_prompts
from dante.cache.records.reader import read_rows
from dante.errors import DanteError

__all__ = [
    "CoderPrompts",
    "DatasetPrompts",
    "JsonlPrompts",
    "ParquetPrompts",
    "PocketPrompts",
    "Prompts",
    "ReasoningGymPrompts",
]


@runtime_checkable
class Prompts(Protocol):
    """A source of prompts, and where they may be used."""

    licence: str

    def load(self) -> list[Prompt]: ...


class PocketPrompts:
    """Our own prompts (see `dante.cache.prompts.pocket`).

    Args:
        count: how many; null takes all.
        seed: of their order and of generated numbers.
    """

    licence = "Apache-2.0 (our own)"

    def __init__(self, count: int | None, seed: int) -> None:
        self.count, self.seed = count, seed

    def load(self) -> list[Prompt]:
        return build_prompts(self.count, self.seed)


class CoderPrompts:
    """Our own prompts for a teacher that writes programs (see `dante.cache.prompts.coder`).

    Args:
        count: how many; null takes all.
        seed: of their order, of numbers and of wordings.
    """

    licence = "Apache-2.0 (our own)"

    def __init__(self, count: int | None, seed: int) -> None:
        self.count, self.seed = check_count(count), seed

    def load(self) -> list[Prompt]:
        return coder.build_prompts(self.count, self.seed)


class JsonlPrompts:
    """A JSONL file with `prompt` (text or messages) per line and, if known, `domain`, `language`, `family`, `prefix`.

    Instead of `prompt` a line may have a whole conversation: `messages`, or ShareGPT's `conversations`.

    Args:
        path: the file, `.jsonl` or `.jsonl.zst`.
        licence: under which its prompts may be used.
    """

    def __init__(self, path: str, licence: str) -> None:
        self.path, self.licence = Path(path).expanduser(), check_licence(licence)

    def load(self) -> list[Prompt]:
        return to_prompts(self._rows(), None, str(self.path))

    def _rows(self) -> Iterator[tuple[str, Any]]:
        check_file(self.path)
        for number, row in read_rows(self.path):
            yield f"{self.path}, line {number}", row


class ParquetPrompts:
    """A Parquet file with the columns of `JsonlPrompts`.

    Args:
        path: the file.
        field: column of the prompts, or of whole conversations: text, messages, or messages as JSON.
        licence: under which its prompts may be used.
        count: the first so many different prompts; null: all.
    """

    def __init__(self, path: str, field: str, licence: str, count: int | None) -> None:
        self.path, self.field = Path(path).expanduser(), field
        self.licence, self.count = check_licence(licence), check_count(count)

    def load(self) -> list[Prompt]:
        return to_prompts(self._rows(), self.count, str(self.path))

    def _rows(self) -> Iterator[tuple[str, Any]]:
        import pyarrow
        import pyarrow.parquet as parquet

        check_file(self.path)
        number = 0
        try:
            file = parquet.ParquetFile(self.path)
            check_column(self.field, file.schema_arrow.names, str(self.path))
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{self.path}, row {number}", row_of(row, self.field, row[self.field])
        except (pyarrow.ArrowException, OSError) as error:
            raise DanteError(
                f"the file is no readable Parquet after row {number} ({error})",
                where=str(self.path),
                fix="write it again, or name a Parquet file",
            ) from None


class ReasoningGymPrompts:
    """Puzzles with one right answer, made by the package `reasoning-gym`.

    Args:
        tasks: names of its tasks, or by name what each is told (how many terms, how many digits).
        count: puzzles of each; the few that come out equal are asked once.
        seed: of the puzzles.
        licence: of the package.
    """

    def __init__(self, tasks: list[str] | dict[str, dict[str, Any]], count: int, seed: int, licence: str) -> None:
        self.tasks = tasks if isinstance(tasks, dict) else {task: dict[str, Any]() for task in tasks}
        self.seed, self.licence = seed, check_licence(licence)
        check_count(count)
        self.count = count

    def load(self) -> list[Prompt]:
        return to_prompts(self._rows(), None, f"reasoning-gym: {', '.join(self.tasks)}")

    def _rows(self) -> Iterator[tuple[str, Any]]:
        for task, told in self.tasks.items():
            for item in puzzles_of(task, told, self.count, self.seed, "prompts"):
                yield f"reasoning-gym, {task}", {"prompt": item["question"], "domain": "reasoning", "family": task,
                                                     "reference": str(item["answer"])}  # fmt: skip
