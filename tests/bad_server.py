"""Local servers that misbehave on purpose: real sockets, one thread per connection."""

import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "teacher"


@dataclass(frozen=True)
class Reply:
    """What a server does with one request.

    Attributes:
        body: a dict becomes JSON; bytes are sent as they are.
        delay_s: time before anything is sent.
        reset_after: the connection is reset after so many bytes of the body; None sends all of it.
    """

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    reset_after: int | None = None


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    path: str
    headers: dict[str, str]
    body: Any
    at_s: float


class BadServer:
    """Serves `/v1/models` properly and everything else as `behave(number, path, body)` says.

    Args:
        behave: number of the request (from 0, models not counted), its path and JSON → a reply.
        models: reply to `/v1/models`; None lists `MODEL`.
        version: what `/version` says; None has no such page.
    """

    def __init__(
        self, behave: Callable[[int, str, Any], Reply], models: Reply | None = None, version: str | None = None
    ) -> None:
        self.behave, self.models = behave, models or Reply({"data": [{"id": MODEL}]})
        self.version = Reply({"version": version}) if version else Reply({"detail": "Not Found"}, 404)
        self.seen: list[Seen] = []
        self.under_way = self.peak = 0
        self.connections = self.connected = 0  # now, and ever
        self._lock = threading.Lock()

    def __enter__(self) -> "BadServer":
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version, sys_version = "Bad/1.0", ""

            def setup(self) -> None:
                with owner._lock:
                    owner.connections += 1
                    owner.connected += 1
                super().setup()

            def do_GET(self) -> None:
                if self.path == "/v1/models":
                    owner._note(self, None)
                    self._send(owner.models)
                else:
                    owner._note(self, None)
                    self._send(owner.version)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                number = owner._note(self, body)
                try:
                    self._send(owner.behave(number, self.path, body))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client gave up
                finally:
                    with owner._lock:
                        owner.under_way -= 1

            def _send(self, reply: Reply) -> None:
                self._pause(reply.delay_s)
                raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in ({"content-length": str(len(raw))} | reply.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw[: reply.reset_after])
                if reply.reset_after is not None:
                    self.wfile.flush()
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()  # with lingering off: a reset instead of an orderly end
                    self.close_connection = True

            def _pause(self, seconds: float) -> None:
                """Sleeps, but not on after the client has hung up."""
                readable, _, _ = select.select([self.connection], [], [], seconds) if seconds else ([], [], [])
                if readable and not self.connection.recv(1, socket.MSG_PEEK):
                    raise ConnectionResetError

            def handle(self) -> None:
                with suppress(OSError):
                    super().handle()

            def finish(self) -> None:
                with suppress(OSError):
                    super().finish()
                with owner._lock:
                    owner.connections -= 1

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _note(self, handler: BaseHTTPRequestHandler, body: Any) -> int:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        with self._lock:
            number = sum(seen.body is not None for seen in self.seen)
            self.seen.append(Seen(handler.path, headers, body, time.monotonic()))
            if body is not None:
                self.under_way += 1
                self.peak = max(self.peak, self.under_way)
        return number

    @property
    def asked(self) -> list[Seen]:
        """Requests for answers, in the order of arrival."""
        return [seen for seen in self.seen if seen.body is not None]


def completion(text: str, ids: list[int], finish_reason: str = "stop", k: int = 4) -> dict[str, Any]:
    """A `/completions` answer as vLLM gives it with token ids as tokens."""
    rows = [{f"token_id:{(i + rank) % 512}": -0.6 - rank for rank in range(k)} for i in ids]
    logprobs = {"token_logprobs": [-0.6] * len(ids), "top_logprobs": rows}
    choice = {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": logprobs, "token_ids": ids}
    return {"choices": [choice]}


def chat(text: str, pieces: list[bytes], finish_reason: str = "stop", k: int = 4) -> dict[str, Any]:
    """A `/chat/completions` answer as hosted endpoints give it."""
    entries = [
        {
            "token": piece.decode("utf-8", errors="replace"),
            "bytes": list(piece),
            "logprob": -0.6,
            "top_logprobs": [{"token": f"{rank}", "logprob": -0.6 - rank} for rank in range(k)],
        }
        for piece in pieces
    ]
    message = {"role": "assistant", "content": text}
    return {"choices": [{"message": message, "finish_reason": finish_reason, "logprobs": {"content": entries}}]}
