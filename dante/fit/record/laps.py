"""Where the wall time of a fit goes."""

import time


class Laps:
    """Seconds since `start`, each given to one name: `step`, `data`, `checkpoint`, `other`.

    Only the host's clock is read. On a device that runs behind the host a step's seconds are right from one logged step
    to the next, where the host waits for the device anyway.

    Attributes:
        seconds: by name, over interruptions; goes into the checkpoint and continues from there.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last: float | None = None

    @property
    def started(self) -> bool:
        return self._last is not None

    @property
    def elapsed_s(self) -> float:
        return sum(self.seconds.values(), 0.0)

    def start(self) -> None:
        """Begin to count from now."""
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Give the time since the last lap or start to `name`."""
        now = time.perf_counter()
        assert self._last is not None, "the clock was not started"
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now

    def share(self, name: str, since: dict[str, float] | None = None) -> float:
        """`name`'s share of all seconds, or of those that came after the copy `since` of `seconds`; 0 of none."""
        before = since or {}
        whole = self.elapsed_s - sum(before.values())
        part = self.seconds.get(name, 0.0) - before.get(name, 0.0)
        return part / whole if whole > 0 else 0.0
