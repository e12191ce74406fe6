"""What is shown while sparse logits are made: records, tokens per second, bytes per token, time left."""

import time
from types import TracebackType

from rich.progress import TextColumn

from dante import console
from dante.cache.sparse.files import Encoded


class Bar:
    """A progress bar over records; rates are those of this command, records that were there count as done.

    Args:
        what: names the work.
        total: records that are wanted.
        there: records that have rows already.
    """

    def __init__(self, what: str, total: int, there: int) -> None:
        rates = (TextColumn("{task.fields[rate]:,.0f} tokens/s"), TextColumn("{task.fields[density]:.1f} bytes/token"))
        self._progress = console.progress_bar(*rates)
        self._task = self._progress.add_task(what, total=total, completed=there, rate=0.0, density=0.0)
        self._tokens = self._bytes = 0

    def advance(self, rows: Encoded) -> None:
        """One more record."""
        self._tokens += len(rows.numbers)
        self._bytes += rows.file_bytes
        elapsed_s = max(time.monotonic() - self._start_s, 1e-6)
        density = self._bytes / self._tokens
        self._progress.update(self._task, advance=1, rate=self._tokens / elapsed_s, density=density)

    def __enter__(self) -> "Bar":
        self._start_s = time.monotonic()
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
