"""The server engine against servers that are slow, refuse, lie, break off or are not there: real sockets each time."""

import asyncio
import functools
import json
import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from transformers import AutoTokenizer

from dante.errors import DanteError
from dante.run.parts import build, walk_targets
from dante.teachers.engines.base import Decoding, Engine, Generation, Request
from dante.teachers.engines.server.engine import ServerEngine
from dante.teachers.smoke import SmokeTeacher
from tests.bad_server import MODEL, BadServer, Reply, chat, completion

CONF = Path(__file__).resolve().parents[1] / "conf" / "engine" / "server.yaml"
GREEDY = Decoding(0.0, 1.0, 0, 24, 1, 4, None)
KEY = "sk-a-very-secret-key-0123456789"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    SmokeTeacher(seed=0, train_steps=1).make(folder)
    return folder / "model"


@pytest.fixture(scope="module")
def tokenizer(teacher: Path) -> Any:
    return load(teacher)


@functools.cache
def load(teacher: Path) -> Any:
    return AutoTokenizer.from_pretrained(teacher)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "server requests"]


def engine(url: str, **changes: Any) -> ServerEngine:
    node = OmegaConf.to_container(OmegaConf.load(CONF))
    assert isinstance(node, dict)
    quick = {"base_url": url, "retries": 3, "backoff_s": 0.01, "backoff_max_s": 0.05, "timeout_s": 10.0}
    return build(node | quick | changes)


def texts(count: int) -> list[str]:
    return [f"answer {number}" for number in range(count)]


def requests(tokenizer: Any, count: int) -> list[Request]:
    return [Request(tokenizer.encode(text), 0, [{"role": "user", "content": text}]) for text in texts(count)]


def honest(tokenizer: Any, body: Any) -> Reply:
    """Repeats the prompt."""
    text = tokenizer.decode(body["prompt"])
    return Reply(completion(text, [*body["prompt"], tokenizer.eos_token_id]))


def ask(url: str, teacher: Path, tmp_path: Path, count: int, **changes: Any) -> list[tuple[int, Generation]]:
    loaded = load(teacher)
    with engine(url, **changes).open(str(teacher), None, {}, tmp_path / "log") as opened:
        return list(opened.generate(requests(loaded, count), GREEDY))


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


# --- the first contact -----------------------------------------------------------------------------------------------


def test_answers_find_their_requests_and_connections_are_reused(teacher: Path, tokenizer: Any, tmp_path: Path) -> None:
    with BadServer(lambda n, path, body: honest(tokenizer, body), version="9.9.9") as server:
        opened = engine(server.url, max_concurrency=2)
        assert isinstance(opened, Engine)
        with opened.open(str(teacher), None, {}, tmp_path / "log"):
            before = server.connected
            answers = dict(opened.generate(requests(tokenizer, 12), GREEDY))
            assert [answers[i].text for i in range(12)] == texts(12)
            assert server.connected - before <= 2
            assert opened.version == "9.9.9"
            assert list(opened.generate([], GREEDY)) == []


def test_without_a_version_page_the_server_header_is_the_version(teacher: Path, tmp_path: Path) -> None:
    with (
        BadServer(lambda n, path, body: Reply()) as server,
        engine(server.url).open(str(teacher), None, {}, tmp_path / "log") as opened,
    ):
        assert opened.version.startswith("Bad/1.0")


def test_nobody_there(teacher: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(DanteError, match=r"127\.0\.0\.1.*models.*launch/serve_teacher\.sh"):
        ask(f"http://127.0.0.1:{free_port()}/v1", teacher, tmp_path, 1, backoff_s=5.0, backoff_max_s=5.0)
    assert time.monotonic() - start < 3  # the first contact is not waited for


def test_another_model_is_served(teacher: Path, tmp_path: Path) -> None:
    models = Reply({"data": [{"id": "kimi-k2"}, {"id": "other"}]})
    with (
        BadServer(lambda n, path, body: Reply(), models) as server,
        pytest.raises(DanteError, match=f"{MODEL}.*kimi-k2, other"),
    ):
        ask(server.url, teacher, tmp_path, 1)


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000/v1", "ftp://host/v1", "http:///v1", "http://me:hunter2@host/v1", "http://host/v1?key=hunter2"],
)
def test_addresses_that_are_none_or_hold_a_secret(url: str) -> None:
    with pytest.raises(DanteError, match="base_url") as caught:
        engine(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"api": "responses"}, "completions, chat"),
        ({"vllm_fields": False}, "api=chat"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"timeout_s": 0.0}, "timeout_s"),
    ],
)
def test_bad_settings(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(DanteError, match=told):
        engine("http://host/v1", **changes)


def test_the_yaml_fits_the_signature() -> None:
    walk_targets(OmegaConf.to_container(OmegaConf.load(CONF)), "engine")


def test_a_hosted_teacher_needs_no_tokenizer_but_a_vocabulary(tmp_path: Path) -> None:
    hosted = {"api": "chat", "vllm_fields": False}
    reply = Reply(chat("ciao 👍", [b"ciao", b" \xf0\x9f", b"\x91\x8d"]))
    with BadServer(lambda n, path, body: reply) as server:
        with engine(server.url, vocabulary=163840, **hosted).open(
            str(tmp_path / "nothing"), None, {}, tmp_path / "log"
        ) as opened:
            ((_, answer),) = opened.generate([Request([], 0, [{"role": "user", "content": "ciao"}])], GREEDY)
            assert (answer.text, answer.token_ends) == ("ciao 👍", [4, 5, 9])
            assert answer.output_entropy_upper > answer.output_entropy
        with pytest.raises(DanteError, match="vocabulary=163840"):
            engine(server.url, **hosted).open(str(tmp_path / "nothing"), None, {}, tmp_path / "log")
        with pytest.raises(DanteError, match="tokenizer cannot be loaded"):
            engine(server.url).open(str(tmp_path / "nothing"), None, {}, tmp_path / "log")


# --- what passes -----------------------------------------------------------------------------------------------------

GARBAGE = {
    "html": Reply(b"<html><body>It works!</body></html>"),
    "cut json": Reply(b'{"choices": [{"text": "hel'),
    "nothing": Reply(b""),
    "not text": Reply(b"\xff\xfe\x00garbage"),
    "a list": Reply(b"[1, 2]"),
    "an error with status 200": Reply({"error": {"message": "overloaded"}}),
    "no choices": Reply({"choices": []}),
    "choices that are words": Reply({"choices": ["hello"]}),
}


def spoilt(tokenizer: Any, body: Any) -> dict[str, Reply]:
    """Honest answers with one thing wrong."""
    found = {}
    for name in ("no logprobs", "short logprobs", "short top", "empty top", "not a number", "no text", "no reason"):
        answer = honest(tokenizer, body).body
        choice = answer["choices"][0]
        if name == "no logprobs":
            choice["logprobs"] = None
        elif name == "short logprobs":
            choice["logprobs"]["token_logprobs"].pop()
        elif name == "short top":
            choice["logprobs"]["top_logprobs"].pop()
        elif name == "empty top":
            choice["logprobs"]["top_logprobs"][0] = {}
        elif name == "not a number":
            choice["logprobs"]["token_logprobs"][0] = float("nan")
        elif name == "no text":
            choice["text"] = None
        else:
            choice["finish_reason"] = "abort"
        found[name] = Reply(answer)
    return found


SPOILT = ["no logprobs", "short logprobs", "short top", "empty top", "not a number", "no text", "no reason"]
PASSING = {
    "500": Reply({"error": {"message": "out of memory"}}, 500),
    "503": Reply(b"upstream is down", 503),
    "408": Reply({}, 408),
    "409": Reply({}, 409),
    "425": Reply({}, 425),
    "429": Reply({"error": {"message": "slow down"}}, 429),
    "reset in the headers": Reply(b"x" * 1000, reset_after=0),
    "reset midway": Reply(b'{"choices": [' + b" " * 1000, reset_after=500),
    "too few bytes": Reply(b"{}", headers={"content-length": "100", "connection": "close"}),
    **GARBAGE,
}


@pytest.fixture(scope="module")
def patient(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BadServer, ServerEngine, Path]]:
    """A server whose behaviour can be changed, an engine with three tries, and its log."""
    log = tmp_path_factory.mktemp("patient") / "log"
    # A body shorter than its promised length may end with the time limit alone.
    with (
        BadServer(lambda n, path, body: Reply()) as server,
        engine(server.url, retries=2, timeout_s=2.0).open(str(teacher), None, {}, log) as opened,
    ):
        yield server, opened, log


Patient = tuple[BadServer, ServerEngine, Path]


@pytest.mark.parametrize("name", [*PASSING, *SPOILT])
def test_what_passes_is_tried_again(name: str, patient: Patient, tokenizer: Any) -> None:
    def behave(number: int, path: str, body: Any) -> Reply:
        if number < 2:
            return PASSING[name] if name in PASSING else spoilt(tokenizer, body)[name]
        return honest(tokenizer, body)

    server, opened, log = patient
    server.behave, server.seen = behave, []
    log.write_text("")
    ((index, answer),) = opened.generate(requests(tokenizer, 1), GREEDY)
    assert (index, answer.text) == (0, "answer 0")
    assert len(server.asked) == 3
    assert log.read_text().count("/completions try") == 2


TOLD = {
    "500": "500.*out of memory",
    "503": "503.*upstream is down",
    "429": "429.*slow down.*requests_per_minute",
    "html": "not JSON.*It works",
    "no logprobs": "without logprobs.token_logprobs.*log-probabilities",
    "short logprobs": "log-probabilities",
    "no reason": "abort",
    "reset midway": "connection failed",
}


@pytest.mark.parametrize("name", [*PASSING, *SPOILT])
def test_what_does_not_pass_is_told_once(name: str, patient: Patient, tokenizer: Any) -> None:
    server, opened, _ = patient
    server.behave = lambda n, path, body: PASSING[name] if name in PASSING else spoilt(tokenizer, body)[name]
    server.seen = []
    with pytest.raises(DanteError, match=TOLD.get(name, "")) as caught:
        list(opened.generate(requests(tokenizer, 1), GREEDY))
    assert f"{server.url}/completions" in str(caught.value)
    assert "3 of 3 tries" in str(caught.value)
    assert "Fix:" in str(caught.value)
    assert len(server.asked) == 3


def test_slow_then_quick(teacher: Path, tokenizer: Any, tmp_path: Path) -> None:
    def behave(number: int, path: str, body: Any) -> Reply:
        reply = honest(tokenizer, body)
        return Reply(reply.body, delay_s=1.5) if number == 0 else reply

    with BadServer(behave) as server:
        start = time.monotonic()
        ((_, answer),) = ask(server.url, teacher, tmp_path, 1, timeout_s=0.5)
        assert answer.text == "answer 0"
        assert time.monotonic() - start < 1.4
        server.behave = lambda n, path, body: Reply(delay_s=0.6)
        with pytest.raises(DanteError, match=r"no answer within 0\.2 s.*timeout_s"):
            ask(server.url, teacher, tmp_path, 1, timeout_s=0.2, retries=1)


# --- what does not pass ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, {"error": {"message": "logprobs 60 > 50"}}, "logprobs 60 > 50"),
        (401, {"error": {"message": "no such key"}}, "no such key.*api_key_env"),
        (403, {"message": "not for you"}, "not for you.*api_key_env"),
        (404, {"detail": "Not Found"}, "Not Found.*/v1"),
        (422, {"error": "unknown field seed"}, "unknown field seed"),
        (413, b"too large", "too large"),
        (302, b"", "302"),
    ],
)
def test_refusals_are_final_and_speak_with_the_server_s_words(
    status: int, body: Any, told: str, teacher: Path, tmp_path: Path
) -> None:
    with BadServer(lambda n, path, b: Reply(body, status, {"location": "http://127.0.0.1:9/"})) as server:
        with pytest.raises(DanteError, match=told):
            ask(server.url, teacher, tmp_path, 1)
        assert len(server.asked) == 1


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_retry_after_holds_for_everybody(kind: str, teacher: Path, tokenizer: Any, tmp_path: Path) -> None:
    def behave(number: int, path: str, body: Any) -> Reply:
        if number:
            return Reply(honest(tokenizer, body).body, delay_s=0.1)
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)  # a date has no fractions
        return Reply({}, 429, {"retry-after": "1" if kind == "seconds" else format_datetime(at, usegmt=True)})

    with BadServer(behave) as server:
        assert len(ask(server.url, teacher, tmp_path, 5, max_concurrency=2)) == 5
        waited = [seen.at_s - server.asked[0].at_s for seen in server.asked[2:]]
    assert min(waited) >= 0.95
    assert max(waited) < 4


def test_a_wait_that_is_too_long_is_not_waited(teacher: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    with (
        BadServer(lambda n, path, body: Reply({}, 429, {"retry-after": "86400"})) as server,
        pytest.raises(DanteError, match="86400 s"),
    ):
        ask(server.url, teacher, tmp_path, 3)
    assert time.monotonic() - start < 3


# --- concurrency, pace, nothing lost ---------------------------------------------------------------------------------


def test_the_bound_on_concurrency_holds_and_is_used(teacher: Path, tokenizer: Any, tmp_path: Path) -> None:
    def behave(number: int, path: str, body: Any) -> Reply:
        if number % 4 == 0:
            return Reply({}, 503, delay_s=0.03)
        return Reply(honest(tokenizer, body).body, delay_s=0.03)

    with BadServer(behave) as server:
        assert len(ask(server.url, teacher, tmp_path, 30, max_concurrency=3, retries=20)) == 30
        assert server.peak == 3


def test_requests_per_minute_hold_over_batches(teacher: Path, tokenizer: Any, tmp_path: Path) -> None:
    with (
        BadServer(lambda n, path, body: honest(tokenizer, body)) as server,
        engine(server.url, requests_per_minute=600).open(str(teacher), None, {}, tmp_path / "log") as opened,
    ):
        for _ in range(3):
            assert len(list(opened.generate(requests(tokenizer, 3), GREEDY))) == 3
        at = [seen.at_s for seen in server.asked]
    assert at[-1] - at[0] >= 8 * 0.1 - 0.03
    assert max(at.count(moment) for moment in at) == 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nothing_is_lost_or_doubled_by_a_server_that_fails_at_random(
    seed: int, teacher: Path, tokenizer: Any, tmp_path: Path
) -> None:
    draw, lock = random.Random(seed), threading.Lock()

    def behave(number: int, path: str, body: Any) -> Reply:
        with lock:
            lucky, failure = draw.random() < 0.5, draw.choice(list(PASSING.values()))
        return honest(tokenizer, body) if lucky else failure

    with BadServer(behave) as server:
        answers = ask(server.url, teacher, tmp_path, 40, max_concurrency=8, retries=30, timeout_s=5.0)
        assert len(server.asked) > 50
    assert sorted(index for index, _ in answers) == list(range(40))
    assert all(answer.text == texts(40)[index] for index, answer in answers)


def test_answers_that_arrived_come_before_the_error(teacher: Path, tokenizer: Any, tmp_path: Path) -> None:
    """The third request is refused at once, while the second is still under way: its answer is waited for."""

    def behave(number: int, path: str, body: Any) -> Reply:
        text = tokenizer.decode(body["prompt"])
        if text == "answer 2":
            return Reply({"error": {"message": "refused"}}, 400)
        return Reply(honest(tokenizer, body).body, delay_s=0.4 if text == "answer 1" else 0.0)

    got: list[tuple[int, str]] = []
    with (
        BadServer(behave) as server,
        engine(server.url, max_concurrency=2).open(str(teacher), None, {}, tmp_path / "log") as opened,
    ):
        answers = ((index, answer.text) for index, answer in opened.generate(requests(tokenizer, 9), GREEDY))
        with pytest.raises(DanteError, match="refused"):
            got.extend(answers)
        assert got == [(0, "answer 0"), (1, "answer 1")]
        assert len(server.asked) == 3  # nothing new was started


# --- being stopped ---------------------------------------------------------------------------------------------------


SLOW_S = 20.0


def without_connections(server: BadServer) -> bool:
    limit = time.monotonic() + 10
    while server.connections and time.monotonic() < limit:
        time.sleep(0.02)
    return not server.connections


def first_quick(tokenizer: Any, number: int, body: Any) -> Reply:
    return Reply(honest(tokenizer, body).body, delay_s=0.0 if number == 0 else SLOW_S)


@pytest.mark.parametrize("how", ["close", "engine"])
def test_closing_cancels_what_is_under_way(how: str, teacher: Path, tokenizer: Any, tmp_path: Path) -> None:
    with BadServer(lambda n, path, body: first_quick(tokenizer, n, body)) as server:
        with engine(server.url, max_concurrency=4).open(str(teacher), None, {}, tmp_path / "log") as opened:
            start = time.monotonic()
            answers = opened.generate(requests(tokenizer, 20), GREEDY)
            next(answers)
            if how == "close":
                answers.close()
        assert time.monotonic() - start < SLOW_S
        assert not [thread for thread in threading.enumerate() if thread.name == "server requests"]
        assert without_connections(server)
        time.sleep(0.2)  # what was on its way may still arrive
        asked = len(server.asked)
        assert asked <= 1 + 4  # the one that was answered, and four at a time
        time.sleep(0.1)
        assert len(server.asked) == asked


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises, also where a shell started the tests in its background and had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_it_at_once(teacher: Path, tokenizer: Any, tmp_path: Path) -> None:
    with BadServer(lambda n, path, body: first_quick(tokenizer, n, body)) as server:
        with engine(server.url, max_concurrency=4).open(str(teacher), None, {}, tmp_path / "log") as opened:
            start = time.monotonic()
            threading.Timer(0.4, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                list(opened.generate(requests(tokenizer, 20), GREEDY))
            assert time.monotonic() - start < SLOW_S
        assert not [thread for thread in threading.enumerate() if thread.name == "server requests"]
        assert without_connections(server)


def test_it_runs_where_an_event_loop_runs_already(teacher: Path, tokenizer: Any, tmp_path: Path) -> None:
    async def notebook() -> int:
        return len(ask(server.url, teacher, tmp_path, 3))

    with BadServer(lambda n, path, body: honest(tokenizer, body)) as server:
        assert asyncio.run(notebook()) == 3


def test_a_reader_that_takes_its_time_loses_nothing(teacher: Path, tokenizer: Any, tmp_path: Path) -> None:
    """The time limit is the server's, not the reader's."""
    with (
        BadServer(lambda n, path, body: Reply(honest(tokenizer, body).body, delay_s=0.05)) as server,
        engine(server.url, max_concurrency=1, timeout_s=0.3).open(str(teacher), None, {}, tmp_path / "log") as opened,
    ):
        count = 0
        for _ in opened.generate(requests(tokenizer, 3), GREEDY):
            time.sleep(0.4)
            count += 1
        assert count == len(server.asked) == 3


# --- scores ----------------------------------------------------------------------------------------------------------


def test_scores_come_in_order_whatever_arrives_first(teacher: Path, tmp_path: Path) -> None:
    def behave(number: int, path: str, body: Any) -> Reply:
        entries = [None, *({str(i): {"logprob": -float(i)}, "0": {"logprob": -0.5}} for i in body["prompt"][1:])]
        return Reply({"choices": [{"prompt_logprobs": entries}]}, delay_s=0.3 if body["prompt"][0] == 1 else 0.0)

    with (
        BadServer(behave) as server,
        engine(server.url).open(str(teacher), None, {}, tmp_path / "log") as opened,
    ):
        scored = list(opened.score([([1, 2, 3], 1), ([4, 5, 6], 2), ([7, 8], 1)], 2))
        assert [score.token_logprobs for score in scored] == [[-2.0, -3.0], [-6.0], [-8.0]]
        assert server.asked[0].body["prompt_logprobs"] == 2
        server.behave = lambda n, path, body: Reply({"choices": [{"text": "x"}]})
        with pytest.raises(DanteError, match="cannot score"):
            list(opened.score([([1, 2], 1)], 2))


# --- the key ---------------------------------------------------------------------------------------------------------


def test_the_key_is_sent_and_never_told(
    teacher: Path,
    tokenizer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DANTE_TEST_KEY", KEY + "\n")  # as a file read by the shell leaves it
    caplog.set_level(logging.DEBUG)
    told = []

    def behave(number: int, path: str, body: Any) -> Reply:
        bad = [
            Reply({"error": {"message": f"the key {KEY} is overloaded"}}, 500),
            Reply(f"<html>{KEY}</html>".encode()),
            Reply({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401),
        ]
        return bad[number]

    with BadServer(behave) as server:
        opened = engine(server.url, api_key_env="DANTE_TEST_KEY")
        with opened.open(str(teacher), None, {}, tmp_path / "log"):
            with pytest.raises(DanteError, match="Incorrect API key") as caught:
                list(opened.generate(requests(tokenizer, 1), GREEDY))
            told += [str(caught.value), repr(caught.value), json.dumps(opened.settings()), repr(opened)]
        sent = {seen.path: seen.headers.get("authorization") for seen in server.seen}
    assert sent == {"/v1/models": f"Bearer {KEY}", "/v1/completions": f"Bearer {KEY}", "/version": None}
    told += [(tmp_path / "log").read_text(), caplog.text, *capfd.readouterr()]
    assert "overloaded" in told[4]  # the failed tries are in the log
    assert not [text for text in told if KEY in text]


@pytest.mark.parametrize("value", [None, "", "two\nlines", "clé"])
def test_a_key_that_is_none(value: str | None, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DANTE_TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("DANTE_TEST_KEY", value)
    with BadServer(lambda n, path, body: Reply()) as server:
        with pytest.raises(DanteError, match="DANTE_TEST_KEY") as caught:
            ask(server.url, teacher, tmp_path, 1, api_key_env="DANTE_TEST_KEY")
        assert not server.seen
    assert not value or value not in str(caught.value)
