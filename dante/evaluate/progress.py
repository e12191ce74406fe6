"""The progress bars of an evaluation: one line per thing that is measured of a model."""

from collections.abc import Callable
from functools import partial
from types import TracebackType

from dante import console


class Bars:
    """A group of bars for one model; `add` returns what to call with the number of items finished."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._progress = console.progress_bar()

    def add(self, what: str, total: int) -> Callable[[int], None]:
        """A new line below the others."""
        return partial(self._progress.advance, self._progress.add_task(f"{self.model}: {what}", total=total))

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
