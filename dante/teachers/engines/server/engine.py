"""The server engine: any OpenAI-compatible endpoint (`vllm serve`, SGLang, a hosted model) as the teacher.

What differs from an engine that runs the model itself:

- A server composes its own batches. In bfloat16 greedy text depends on the batch, so a rerun may differ in text, and
  answers of a batch that failed midway are worth keeping (`keeps_answers`). Between engines compare entropies and
  log-probabilities of given text; bfloat16 itself moves those by 0.02 to 0.06 nats on average, single ones by 0.4.
- How many log-probabilities a server gives: 20 at most on hosted endpoints and by default on vLLM (`--max-logprobs`).
- What they are: vLLM's default (`--logprobs-mode raw_logprobs`) is the model's distribution at temperature 1, before
  top-p, top-k and penalties, which is what a cache holds. Its processed modes, and some other servers, give the
  distribution that was sampled from: then ask with temperature 1 and top-p 1, or greedily where temperature 0 leaves
  the log-probabilities alone.
- `completions` sends and receives token ids. `chat` renders the prompt with the server's template and returns text
  with the bytes of its tokens: exact for that text, but tokenising the text again may give other tokens than those.
- Few servers end an answer that runs into a loop. vLLM is asked to (`repetition_detection`); elsewhere the answer is
  cut afterwards where the loop is complete, which costs its tokens and gives the same text.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx

from dante.errors import DanteError
from dante.teachers.engines.base import Decoding, Generation, Request, Scored, stop_ids_of
from dante.teachers.engines.server.api import Api, Chat, Completions, Words, read_scores
from dante.teachers.engines.server.background import Background
from dante.teachers.engines.server.client import LOOPBACK, WHERE, Call, Client, Garbage, Policy

APIS: dict[str, type[Completions] | type[Chat]] = {"completions": Completions, "chat": Chat}
VERSION_TIMEOUT_S = 10.0


class ServerEngine:
    """Sends every request by itself and yields answers as they arrive.

    Args:
        base_url: as OpenAI's clients take it, with the `/v1` at its end.
        model: the name under which the server serves the teacher.
        api: `completions` (token ids; vLLM) or `chat` (messages; any server).
        vllm_fields: send vLLM's additions to the API. Hosted endpoints refuse fields that they do not know.
        vocabulary: V, for the upper bound of the entropy; null reads it from the teacher's config.
        max_concurrency: requests under way at any moment.
        requests_per_minute: how many may start, retries included; null sets no pace.
        timeout_s: how long one try may take, from connecting to the last byte.
        retries: further tries after the first one, for what may pass: lost connections, time limits, 408, 409, 425,
            429, 5xx, and answers that hold something else than was asked for.
        backoff_s: wait before the first retry; doubles with each.
        backoff_max_s: longest such wait.
        retry_after_max_s: longest wait that the server itself may ask for; beyond it the run stops and says so.
        api_key_env: environment variable that holds the key; null sends none.
        dtype_note: what the server computes in, as far as you know: it goes into the manifest.
    """

    keeps_answers = True
    loads_model = False

    def __init__(
        self,
        base_url: str,
        model: str,
        api: str,
        vllm_fields: bool,
        vocabulary: int | None,
        max_concurrency: int,
        requests_per_minute: int | None,
        timeout_s: float,
        retries: int,
        backoff_s: float,
        backoff_max_s: float,
        retry_after_max_s: float,
        api_key_env: str | None,
        dtype_note: str,
    ) -> None:
        if api not in APIS:
            raise DanteError(f"unknown api {api!r}", where=f"{WHERE}.api", allowed=", ".join(APIS))
        if api == "completions" and not vllm_fields:
            raise DanteError(
                "api=completions needs the token ids that only vLLM's additions give",
                where=f"{WHERE}.vllm_fields",
                fix=f"{WHERE}.api=chat, or vllm_fields=true for a vLLM server",
            )
        for name, value, least in (("max_concurrency", max_concurrency, 1), ("retries", retries, 0)):
            if value < least:
                raise DanteError(f"{name}={value}", where=f"{WHERE}.{name}", allowed=f"at least {least}")
        if timeout_s <= 0 or (requests_per_minute is not None and requests_per_minute <= 0):
            raise DanteError(
                f"timeout_s={timeout_s}, requests_per_minute={requests_per_minute}", where=WHERE, allowed="above 0"
            )
        self.base_url, self._root = _checked(base_url)
        self.model, self.api, self.vllm_fields, self.vocabulary = model, api, vllm_fields, vocabulary
        self.api_key_env, self.dtype_note = api_key_env, dtype_note
        self._policy = Policy(
            max_concurrency, requests_per_minute, timeout_s, retries, backoff_s, backoff_max_s, retry_after_max_s
        )
        self._api: Api = APIS[api]()
        self._running: set[Background[tuple[int, Any]]] = set()
        self.version = ""

    def open(self, model: str, revision: str | None, resources: dict[str, Any], log: Path) -> "ServerEngine":
        """Asks the server what it serves, then loads the teacher's tokenizer; failed tries go to the file `log`.

        Args:
            model: the teacher, for its tokenizer and vocabulary; the server has its own name for it.
            revision: hub revision.
            resources: not needed here.
            log: text file.

        Raises:
            DanteError: the server cannot be reached, does not serve the model, or refuses the key.
        """
        self._client = Client(self.base_url, self._policy, self._key(), log)
        ((_, served),) = self._ask([Call("/models", None, _served, knock=True)])
        if self.model not in served:
            raise DanteError(
                f"{self.base_url} does not serve {self.model!r}",
                where=f"{WHERE}.model",
                allowed=", ".join(served) or "nothing: it serves no model",
                fix=f"{WHERE}.model={served[0]}" if served else "launch/serve_teacher.sh",
            )
        self.version = self._server_version()
        self._words = self._load_words(model, revision)
        return self

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[tuple[int, Generation]]:
        """Answers in the order in which they arrive; see `Engine`.

        Raises:
            DanteError: a request failed for good; every answer that arrived has been yielded before.
        """

        def read(answer: Any) -> Generation:
            return self._api.read(answer, decoding, self._words)

        yield from self._ask(
            [
                Call(
                    self._api.path,
                    {"model": self.model} | self._api.body(request, decoding, self._words, self.vllm_fields),
                    read,
                )
                for request in requests
            ]
        )

    def score(self, sequences: list[tuple[list[int], int]], k: int) -> Iterator[Scored]:
        """See `Engine`; asks `/completions` for `prompt_logprobs`, which vLLM has, whatever `api` is."""

        def call(ids: list[int], start: int) -> Call:
            body = {"model": self.model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": k}
            return Call("/completions", body, lambda answer: read_scores(answer, ids, start, k))

        early: dict[int, Scored] = {}
        due = 0
        for index, scored in self._ask([call(ids, start) for ids, start in sequences]):
            early[index] = scored
            while due in early:
                yield early.pop(due)
                due += 1

    def settings(self) -> dict[str, Any]:
        numbers = {"dtype": self.dtype_note, "vocabulary": self.vocabulary}
        return {"name": "server", "api": self.api, "model": self.model} | numbers

    def close(self) -> None:
        """Cancels what is still under way."""
        for running in list(self._running):
            running.close()
        self._running.clear()

    def __enter__(self) -> "ServerEngine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, calls: Sequence[Call]) -> Iterator[tuple[int, Any]]:
        running = self._client.run(calls)
        self._running.add(running)
        try:
            yield from running
        finally:  # also when the reader stops reading, or is interrupted
            running.close()
            self._running.discard(running)

    def _key(self) -> str | None:
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable():  # what HTTP refuses it would print in its error
            raise DanteError(
                f"the environment variable {self.api_key_env} holds {'something else than' if key else 'no'} a key",
                where=f"{WHERE}.api_key_env",
                fix=f"export {self.api_key_env}=…, or api_key_env=null for a server without one",
            )
        return key

    def _server_version(self) -> str:
        """What `/version` says (vLLM), else the `server` header; the key is not sent there."""
        with suppress(httpx.HTTPError, ValueError, KeyError, TypeError):
            trust = urlsplit(self._root).hostname not in LOOPBACK
            response = httpx.get(f"{self._root}/version", timeout=VERSION_TIMEOUT_S, trust_env=trust)
            header = response.headers.get("server", "unknown")
            with suppress(ValueError, KeyError, TypeError):
                return str(response.json()["version"])
            return header
        return "unknown"

    def _load_words(self, model: str, revision: str | None) -> Words:
        from transformers import AutoConfig, AutoTokenizer

        size, tokenizer = self.vocabulary, None
        try:
            tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)
        except Exception as error:  # transformers raises whatever its files make it raise
            if self.api == "completions":
                raise DanteError(
                    f"the teacher's tokenizer cannot be loaded: {error}",
                    where="teacher.make.model",
                    fix=f"give a teacher whose tokenizer is here, or {WHERE}.api=chat",
                ) from None
        if size is None:
            try:
                config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
                size = int(config.get_text_config().vocab_size)
            except Exception as error:
                raise DanteError(
                    f"the teacher's vocabulary is unknown: {error}",
                    where=f"{WHERE}.vocabulary",
                    fix=f"say how many entries it has: {WHERE}.vocabulary=163840 for Kimi K2",
                ) from None
        return Words(tokenizer, stop_ids_of(tokenizer, model, revision) if tokenizer is not None else set(), size)


def _checked(base_url: str) -> tuple[str, str]:
    """The base URL without a slash at its end, and the server's root."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username or parts.password:
        raise DanteError(
            "base_url is not the plain address of a server",  # not repeated here: it may hold a password
            where=f"{WHERE}.base_url",
            allowed="http(s)://HOST[:PORT]/v1, without a user, password or query; a key comes from api_key_env",
        )
    return base_url.rstrip("/"), f"{parts.scheme}://{parts.netloc}"


def _served(answer: Any) -> list[str]:
    try:
        return [str(entry["id"]) for entry in answer["data"]]
    except (KeyError, TypeError):
        raise Garbage("that lists no models") from None
