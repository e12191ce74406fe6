"""Asynchronous work that plain code reads from: an event loop in a thread that lives exactly as long as the work.

The loop is not driven from the reader's `next()`: while the reader is busy elsewhere (writing a journal, drawing a
bar) sockets would starve and time limits pass unnoticed; and inside a notebook a loop already runs in the main thread.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
_END = object()


class Background(Generic[Item]):
    """Runs `work(put)` in a thread; iterating yields what it puts, then raises what it raised.

    Args:
        work: a coroutine function; whatever it opens, it closes when it is cancelled.
    """

    def __init__(self, work: Callable[[Callable[[Item], None]], Coroutine[Any, Any, None]]) -> None:
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._running = threading.Event()
        self._error: BaseException | None = None
        # A daemon, so that a second interrupt while the first one is being handled can end the process.
        self._thread = threading.Thread(target=self._run, args=(work,), name="server requests", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        while (item := self._items.get()) is not _END:
            yield item
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Cancels the work if it is not done, and waits until its sockets and its thread are gone."""
        self._running.wait()
        with suppress(RuntimeError):  # the loop is closed: the work is done
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self, work: Callable[[Callable[[Item], None]], Coroutine[Any, Any, None]]) -> None:
        async def supervised() -> None:
            self._loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None
            self._task = task
            self._running.set()
            await work(self._items.put)

        try:
            asyncio.run(supervised())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # it belongs to the reader
            self._error = error
        finally:
            self._items.put(_END)
