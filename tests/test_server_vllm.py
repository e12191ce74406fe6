"""A real `vllm serve` on loopback against the engines that run the model themselves (marker `vllm`)."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dante.teachers.engines.base import Decoding, Generation, Request
from dante.teachers.engines.transformers_engine import TransformersEngine
from dante.teachers.engines.vllm_engine import VllmEngine
from dante.teachers.smoke import SmokeTeacher
from dante.teachers.uncertainty import mean_entropy_bounds
from dante.text.repetition import RepetitionLimit, repeats
from tests.test_server_engine import engine, free_port, load


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained long enough to prefer some tokens clearly."""
    folder = tmp_path_factory.mktemp("trained")
    SmokeTeacher(seed=0, train_steps=400).make(folder)
    return folder / "model"


@pytest.fixture(scope="module")
def vllm_python() -> str:
    python = os.environ.get("DANTE_VLLM_PYTHON")
    if not python:
        pytest.skip("DANTE_VLLM_PYTHON does not name an interpreter with vLLM")
    return python


@pytest.fixture(scope="module")
def served(trained: Path, vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a real `vllm serve`, started and stopped by the launch script."""
    folder, port = tmp_path_factory.mktemp("serve"), free_port()
    script = Path(__file__).resolve().parents[1] / "launch" / "serve_teacher.sh"
    environment = os.environ | {"SERVE_DIR": str(folder), "DTYPE": "float32", "VLLM_CPU_KVCACHE_SPACE": "1"}
    home = Path(vllm_python).parents[1]
    start = [script, home, trained, str(port), "--max-model-len", "512"]
    subprocess.run(start, check=True, env=environment, stdout=subprocess.PIPE)
    (pidfile,) = folder.glob("*.pid")
    pid = int(pidfile.read_text())
    yield f"http://127.0.0.1:{port}/v1"
    subprocess.run([script, "stop", pidfile], check=True, stdout=subprocess.PIPE)
    assert not Path(f"/proc/{pid}").exists()
    assert not pidfile.exists()


QUESTIONS = ["Name a planet.", "What is 15 times 4?", "Qual è la capitale d'Italia?", "I cannot sleep.", "Dove vai?"]
GIVEN = [
    "The capital of Italy is Rome.",
    "Così è: caffè, perché no? 👍🏽",
    "15 times 4 is 60, I think.",
    "日本 x\n\n1. a",
]
CHOICE_MARGIN_NATS = 0.1


@pytest.mark.vllm
def test_a_real_server_agrees_with_both_engines(trained: Path, served: str, vllm_python: str, tmp_path: Path) -> None:
    """float32 everywhere: scores of given text, entropies, and greedy text up to the first near tie."""
    loaded = load(trained)
    asked = []
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        ids = loaded.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        asked.append(Request(list(ids), 0, messages))
    given = [
        ([*asked[0].prompt_ids, *loaded.encode(text, add_special_tokens=False)], len(asked[0].prompt_ids))
        for text in GIVEN
    ]
    greedy = Decoding(0.0, 1.0, 0, 40, 1, 20, None)
    log = tmp_path / "log"
    engines = {
        "transformers": TransformersEngine("float32", 1, "cpu").open(str(trained), None, {}, log),
        "completions": engine(served, dtype_note="float32").open(str(trained), None, {}, log),
        "chat": engine(served, api="chat", dtype_note="float32").open(str(trained), None, {}, log),
        "hosted": engine(served, api="chat", vllm_fields=False).open(str(trained), None, {}, log),
        "vllm": VllmEngine("float32", 512, 1, 1, 50, True, 1).open(str(trained), None, {"python": vllm_python}, log),
    }
    answers, scores = {}, {}
    for name, opened in engines.items():
        with opened:
            answers[name] = dict(opened.generate(asked, greedy))
            scores[name] = list(opened.score(given, 20))
            if name == "transformers":
                margins = [first_near_tie(opened, loaded, request, answers[name][i]) for i, request in enumerate(asked)]
    for name in engines:
        moved = max(
            abs(a - b)
            for ours, theirs in zip(scores[name], scores["transformers"], strict=True)
            for a, b in zip(ours.token_logprobs, theirs.token_logprobs, strict=True)
        )
        entropies = [
            [mean_entropy_bounds(np.array(score.top_logprobs), 512) for score in scores[which]]
            for which in (name, "transformers")
        ]
        apart = float(np.abs(np.array(entropies[0]) - np.array(entropies[1])).max())
        same = compared = 0
        for i in range(len(asked)):
            ours, theirs = answers[name][i], answers["transformers"][i]
            certain = theirs.text.encode("utf-8")[: margins[i]]
            compared += len(certain)
            assert ours.text.encode("utf-8")[: margins[i]] == certain, (name, i)
            if ours.text == theirs.text:
                same += 1
                assert ours.token_ends == theirs.token_ends
                assert ours.finish_reason == theirs.finish_reason
                assert ours.token_logprobs == pytest.approx(theirs.token_logprobs, abs=0.02)
                assert ours.output_entropy == pytest.approx(theirs.output_entropy, abs=0.02)
                assert ours.output_entropy_upper == pytest.approx(theirs.output_entropy_upper, abs=0.02)
        print(
            f"{name:<13} log-probabilities within {moved:.1e} nats, entropies within {apart:.1e}; greedy: "
            f"{same} of {len(asked)} texts equal, {compared} bytes before a near tie"
        )
        assert moved < 0.02
        assert apart < 0.02
        assert same
        assert compared > 50
        for ours, theirs in zip(scores[name], scores["transformers"], strict=True):
            assert [ids[0] for ids in ours.top_ids] == [ids[0] for ids in theirs.top_ids]


def first_near_tie(opened: Any, loaded: Any, request: Request, answer: Generation) -> int:
    """Bytes of a greedy text in front of the first position at which two tokens are almost equally likely."""
    reply = loaded.encode(answer.text, add_special_tokens=False)
    if not reply:
        return 0
    (scored,) = opened.score([([*request.prompt_ids, *reply], len(request.prompt_ids))], 2)
    for number, (first, second) in enumerate(scored.top_logprobs):
        if first - second < CHOICE_MARGIN_NATS:
            return len(loaded.decode(reply[:number]).encode("utf-8"))
    return len(answer.text.encode("utf-8"))


@pytest.mark.vllm
def test_a_real_server_samples_stops_continues_and_ends_loops(trained: Path, served: str, tmp_path: Path) -> None:
    loaded = load(trained)
    messages = [{"role": "user", "content": "Name a planet."}]
    prompt = list(loaded.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))
    sampled: dict[int, Generation] = {}
    for api in ("completions", "chat"):
        with engine(served, api=api).open(str(trained), None, {}, tmp_path / "log") as opened:
            assert opened.version.startswith("0.")
            # Sampled far from the mode: the drawn token is often outside the K largest.
            hot = Decoding(1.5, 1.0, 0, 40, 1, 5, None)
            drawn = dict(opened.generate([Request(prompt, seed, messages) for seed in range(6)], hot))
            again = dict(opened.generate([Request(prompt, seed, messages) for seed in range(6)], hot))
            assert [drawn[i].text for i in range(6)] == [again[i].text for i in range(6)]
            assert len({drawn[i].text for i in range(6)}) > 1
            sampled = sampled or drawn
            for i in range(6):
                assert drawn[i].text == sampled[i].text
                assert drawn[i].token_ends == sampled[i].token_ends
                # One of two lists may lack its last entry: the bounds overlap, but are not equal.
                assert drawn[i].output_entropy <= sampled[i].output_entropy_upper
                assert drawn[i].output_entropy_upper >= sampled[i].output_entropy
            whole = dict(opened.generate([Request(prompt, 0, messages)], Decoding(0.0, 1.0, 0, 40, 1, 5, None)))[0]
            assert len(whole.text) > 8
            # At the end of a token: elsewhere the rest is written in other tokens, and a small model goes elsewhere.
            half = whole.text.encode()[: whole.token_ends[len(whole.token_ends) // 2]].decode()
            rest = Request(prompt + loaded.encode(half, add_special_tokens=False), 0, messages, half)
            continued = dict(opened.generate([rest], Decoding(0.0, 1.0, 0, 40, 1, 5, None)))[0]
            stop = whole.text[4:6]
            stopped = dict(
                opened.generate([Request(prompt, 0, messages)], Decoding(0.0, 1.0, 0, 40, 1, 5, None, [stop]))
            )[0]
            assert (stopped.text, stopped.finish_reason) == (whole.text[: whole.text.index(stop)], "stop")
            assert stopped.token_ends[-1] == len(stopped.text.encode("utf-8"))
            limit = RepetitionLimit(1, 8, 3)
            for word in (
                "the",
                "is",
                "a",
                "of",
                "planet",
                "Saturn",
                "one",
                ".",
            ):  # what loops depends on the CPU's model
                content = f"{word} " * 9
                looped = Request(loaded.encode(content[:-1]), 0, [{"role": "user", "content": content}])
                looping = dict(opened.generate([looped], Decoding(0.0, 1.0, 0, 200, 1, 5, limit)))[0]
                if looping.finish_reason == "repetition":
                    break
            print(
                f"{api:<12} {whole.text!r}; continued {half!r} with {continued.text!r}; stopped {stopped.text!r}; "
                f"loop: {looping.finish_reason}, {len(looping.token_ends)} tokens"
            )
            assert continued.text == whole.text[len(half) :]
            if api == "completions":
                assert looping.finish_reason == "repetition"
                assert repeats(loaded.encode(looping.text), limit)
