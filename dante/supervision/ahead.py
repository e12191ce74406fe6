"""Work that is begun before it is asked for: a thread works through what is expected, in order, piece by piece.

One thread, so that the piece which is asked for next is never behind another one: the bound that its engine has on what
is under way holds for both together.
"""

import os
import queue
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.synchronize import Event
from typing import Generic, TypeVar

Item = TypeVar("Item")
# A worker whose fit is over, or whose parent has died, finds that out within this while.
LOOK_S = 0.2


class Over(RuntimeError):
    """Nothing is asked for any more."""


class Ahead(Generic[Item]):
    """Items by name, made in the order in which they are expected.

    Args:
        work: names → their items, in order; called from the thread.
        stop: ends a `work` that is under way; called from another thread, more than once.
        over: set when nothing is asked for any more, by whichever process decides that.
    """

    def __init__(self, work: Callable[[list[str]], Iterator[Item]], stop: Callable[[], None], over: Event) -> None:
        self._work, self._stop, self._over = work, stop, over
        self._parent = os.getppid()
        self._pieces: queue.SimpleQueue[list[tuple[str, Future[Item]]] | None] = queue.SimpleQueue()
        self._made: dict[str, deque[Future[Item]]] = defaultdict(deque)
        # A daemon: a process that is ended at once does not wait for a server.
        self._thread = threading.Thread(target=self._run, name="expected", daemon=True)
        self._thread.start()

    def expect(self, names: Sequence[str]) -> None:
        """Begin with these as soon as those before them are there; each is taken once."""
        piece: list[tuple[str, Future[Item]]] = [(name, Future()) for name in names]
        for name, future in piece:
            self._made[name].append(future)
        if piece:
            self._pieces.put(piece)

    def take(self, names: Sequence[str]) -> list[Item]:
        """The items, as soon as they are there; what was not expected begins now.

        Raises:
            Exception: what `work` raised.
        """
        waiting: dict[str, int] = defaultdict(int)
        missing = []
        for name in names:
            waiting[name] += 1
            if waiting[name] > len(self._made[name]):
                missing.append(name)
        self.expect(missing)
        return [self._wait(self._made[name].popleft()) for name in names]

    def close(self) -> None:
        """End what is under way and wait until it has ended."""
        self._over.set()
        self._pieces.put(None)
        while self._thread.is_alive():
            self._stop()  # again: what was about to begin may have begun since
            self._thread.join(LOOK_S)

    def _wait(self, future: "Future[Item]") -> Item:
        while not future.done():
            if self._over.is_set() or os.getppid() != self._parent:
                raise Over
            with suppress(TimeoutError):
                return future.result(LOOK_S)
        return future.result()

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            try:
                if self._over.is_set():
                    raise Over
                items = self._work([name for name, _ in piece])
                for (_, future), item in zip(piece, items, strict=True):
                    future.set_result(item)
            except BaseException as error:  # it belongs to whoever takes them
                for _, future in piece:
                    if not future.done():
                        future.set_exception(error)
