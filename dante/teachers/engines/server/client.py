"""HTTP to one server: bounded concurrency, pace, retries. What is asked and how an answer reads is not its business."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from dante.errors import DanteError
from dante.teachers.engines.server.background import Background

WHERE = "engine"
RETRIED_STATUSES = {408, 409, 425, 429}  # and 5xx
FIXES = {
    401: "set the key in the environment and its name in engine.api_key_env",
    403: "set the key in the environment and its name in engine.api_key_env",
    404: "base_url ends in /v1 on most servers; is the API that engine.api names there?",
    429: "lower engine.requests_per_minute or max_concurrency; the same command continues",
}
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Policy:
    """How hard a server is asked; see `ServerEngine`."""

    max_concurrency: int
    requests_per_minute: int | None
    timeout_s: float
    retries: int
    backoff_s: float
    backoff_max_s: float
    retry_after_max_s: float


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        path: below the base URL, e.g. `/completions`.
        body: JSON to post; None gets.
        read: the answer's JSON → what the caller wants; raises `Garbage` for an answer that is none.
        knock: the first contact: a server that cannot be reached is not waited for.
    """

    path: str
    body: dict[str, Any] | None
    read: Callable[[Any], Any]
    knock: bool = False


class Garbage(Exception):
    """An answer that does not hold what was asked for."""


class _Transient(Exception):
    """A failure worth another try; `wait_s` when the server said how long to wait."""

    def __init__(self, what: str, fix: str, wait_s: float | None = None, unreachable: bool = False) -> None:
        super().__init__(what)
        self.what, self.fix, self.wait_s, self.unreachable = what, fix, wait_s, unreachable


class _Halted(Exception):
    """Another request failed for good, so this one is not tried (again)."""


class Client:
    """Sends calls; its pace is kept over several `run`s.

    Args:
        base_url: `http(s)://host[:port]/…`, without credentials.
        policy: concurrency, pace, time limit, retries.
        key: sent as a bearer token, and cut out of everything that the server says; None sends nothing.
        log: file to which every failed try adds a line.
    """

    def __init__(self, base_url: str, policy: Policy, key: str | None, log: Path) -> None:
        self.base_url, self.policy = base_url, policy
        self._key, self._log = key, log
        self._next_s = 0.0  # when the next request may start, on the monotonic clock

    def run(self, calls: Sequence[Call]) -> Background[tuple[int, Any]]:
        """Yields `(index into calls, what its read gave)` as answers arrive.

        When a call fails for good, no further one starts, those under way end (one try, no more), and what they
        brought comes before the `DanteError`.
        """

        async def work(put: Callable[[tuple[int, Any]], None]) -> None:
            halt = asyncio.Event()
            failures: list[BaseException] = []
            pending = iter(enumerate(calls))

            async def worker(http: httpx.AsyncClient) -> None:
                try:
                    await self._serve(http, pending, put, halt)
                except Exception as error:  # the first is the reason; those that follow are often the same
                    failures.append(error)
                    halt.set()

            async with self._connect() as http:
                await asyncio.gather(*(worker(http) for _ in range(min(self.policy.max_concurrency, len(calls)))))
            if failures:
                raise failures[0]

        return Background(work)

    def _connect(self) -> httpx.AsyncClient:
        bound = self.policy.max_concurrency
        return httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            limits=httpx.Limits(max_connections=bound, max_keepalive_connections=bound),
            timeout=None,  # each try has one limit over all of it, against a server that trickles
            trust_env=urlsplit(self.base_url).hostname not in LOOPBACK,  # no proxy between this machine and itself
        )

    async def _serve(
        self,
        http: httpx.AsyncClient,
        pending: Iterator[tuple[int, Call]],
        put: Callable[[tuple[int, Any]], None],
        halt: asyncio.Event,
    ) -> None:
        for index, call in pending:
            try:
                put((index, await self._persist(http, call, halt)))
            except _Halted:
                return

    async def _persist(self, http: httpx.AsyncClient, call: Call, halt: asyncio.Event) -> Any:
        tries = self.policy.retries + 1
        for number in range(1, tries + 1):
            await self._turn(halt)
            try:
                return await self._try(http, call)
            except _Transient as error:
                final = number == tries or (call.knock and error.unreachable)
                too_long = error.wait_s is not None and error.wait_s > self.policy.retry_after_max_s
                self._note(call, f"try {number} of {tries}: {error.what}")
                if halt.is_set():
                    raise _Halted from None
                if final or too_long:
                    asked = f", and the server asks to wait {error.wait_s:.0f} s" if too_long else ""
                    raise DanteError(
                        f"{self.base_url}{call.path}: {error.what} ({number} of {tries} tries{asked})",
                        where=f"{WHERE}.base_url, {WHERE}.retries",
                        fix=error.fix,
                    ) from None
                if error.wait_s is not None:  # meant for everybody
                    self._next_s = max(self._next_s, time.monotonic() + error.wait_s)
                await _sleep(self._wait_s(number), halt)
        raise AssertionError("the last try returns or raises")

    async def _try(self, http: httpx.AsyncClient, call: Call) -> Any:
        method = "GET" if call.body is None else "POST"
        try:
            async with asyncio.timeout(self.policy.timeout_s):
                response = await http.request(method, self.base_url + call.path, json=call.body)
        except TimeoutError:
            raise _Transient(
                f"no answer within {self.policy.timeout_s:g} s",
                f"raise {WHERE}.timeout_s, or lower {WHERE}.max_concurrency",
            ) from None
        except httpx.RequestError as error:
            raise _Transient(
                f"the connection failed ({type(error).__name__}: {self._safe(str(error))})",
                f"start a server (launch/serve_teacher.sh) or correct {WHERE}.base_url; the same command continues",
                unreachable=isinstance(error, httpx.ConnectError),
            ) from None
        if response.status_code != 200:
            raise self._refusal(response, call)
        try:
            answer = response.json()
        except ValueError:  # not JSON, or not text at all
            what = f"an answer that is not JSON: {self._safe(response.text)!r}"
        else:
            try:
                return call.read(answer)
            except Garbage as error:
                what = f"an answer {self._safe(str(error))}: {self._safe(response.text)!r}"
            except (AttributeError, IndexError, KeyError, TypeError) as error:  # other types than the API has
                what = f"an answer of another shape ({self._safe(str(error))}): {self._safe(response.text)!r}"
        raise _Transient(what, f"is this an OpenAI-compatible server that returns log-probabilities? {WHERE}.base_url")

    def _refusal(self, response: httpx.Response, call: Call) -> Exception:
        status = response.status_code
        what = f"status {status}: {self._safe(_message(response))!r}"
        fix = FIXES.get(status, "see the server's own message and its log")
        if status in RETRIED_STATUSES or status >= 500:
            return _Transient(what, fix, _retry_after_s(response.headers.get("retry-after")))
        return DanteError(f"{self.base_url}{call.path}: {what}", where=f"{WHERE}.base_url", fix=fix)

    async def _turn(self, halt: asyncio.Event) -> None:
        """Waits until a request may start; others may move that moment meanwhile."""
        while (wait_s := self._next_s - time.monotonic()) > 0:
            await _sleep(wait_s, halt)
        if halt.is_set():
            raise _Halted
        if self.policy.requests_per_minute:
            self._next_s = time.monotonic() + 60.0 / self.policy.requests_per_minute

    def _wait_s(self, number: int) -> float:
        """Doubles with every try; jitter keeps requests that failed together from coming back together."""
        longest = min(self.policy.backoff_max_s, self.policy.backoff_s * 2.0 ** (number - 1))
        return longest * random.uniform(0.5, 1.0)

    def _safe(self, text: str) -> str:
        """The start of a server's words, without the key, which some servers repeat."""
        return (text.replace(self._key, "***") if self._key else text)[:300]

    def _note(self, call: Call, line: str) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%H:%M:%S} {call.path} {line}\n")


async def _sleep(seconds: float, halt: asyncio.Event) -> None:
    """Sleeps, but not after `halt`, which is an error for the sleeper."""
    try:
        async with asyncio.timeout(seconds):
            await halt.wait()
    except TimeoutError:
        return
    raise _Halted


def _message(response: httpx.Response) -> str:
    """The server's own words, in the shapes that servers use; else the body."""
    try:
        body = response.json()
        inner = body.get("error") or body.get("message") or body.get("detail")
        return str(inner["message"] if isinstance(inner, dict) else inner or response.text)
    except (ValueError, AttributeError, KeyError):
        return response.text


def _retry_after_s(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header: a number or an HTTP date; None when there is none."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
