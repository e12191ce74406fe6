"""The vLLM engine: its protocol with a stand-in worker, its errors, and (marker `vllm`) the real thing."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from dante.errors import DanteError
from dante.teachers.engines import vllm_engine
from dante.teachers.engines.base import Decoding, Request
from dante.teachers.engines.vllm_engine import VllmEngine
from dante.teachers.smoke import SmokeTeacher
from dante.teachers.uncertainty import mean_entropy_bounds

GREEDY = Decoding(0.0, 1.0, 0, 24, 1, 20, None)

# Answers every prompt with its own ids, backwards, one request after the other from the last to the first.
STAND_IN = """
import json, sys
print("noise on standard output is the worker's own problem", file=sys.stderr)
setup = json.loads(sys.stdin.readline())
print(json.dumps({"type": "ready", "version": "stand-in", "vocabulary": 512}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if message["requests"][0]["max_tokens"] == 666:
        print("the end is near", file=sys.stderr); sys.exit(3)
    if message["requests"][0]["max_tokens"] == 667:
        print(json.dumps({"type": "error", "message": "out of memory"}), flush=True); sys.exit(1)
    for index in reversed(range(len(message["requests"]))):
        ids = [*message["requests"][index]["prompt_ids"], message["sampling"]["stop_token_ids"][-1]]
        print(json.dumps({"type": "generation", "index": index, "token_ids": ids, "finish_reason": "stop",
                          "logprobs": [-0.5] * len(ids), "top_logprobs": [[-0.5, -1.5]] * len(ids)}), flush=True)
    print(json.dumps({"type": "end"}), flush=True)
"""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    SmokeTeacher(seed=0).make(folder)
    return folder / "model"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(STAND_IN)
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"  # an interpreter that claims to have vLLM
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 0\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(vllm_engine, "WORKER", script)


def engine() -> VllmEngine:
    return VllmEngine("bfloat16", 512, 1, 1, 50, True, 2)


def test_answers_find_their_requests(stand_in: None, teacher: Path, tmp_path: Path) -> None:
    with engine().open(str(teacher), None, {"python": str(tmp_path / "bin" / "python")}, tmp_path / "log") as opened:
        assert opened.version == "stand-in"
        requests = [Request(opened.tokenizer.encode(text), 0) for text in ("one", "two three", "ciao 👍")]
        for _ in range(2):  # one worker serves several batches
            answers = list(opened.generate(requests, GREEDY))
            assert [index for index, _ in answers] == [2, 1, 0]
            assert {index: g.text for index, g in answers} == {0: "one", 1: "two three", 2: "ciao 👍"}
        last = dict(answers)[2]
        assert last.token_ends[-1] == len("ciao 👍".encode())
        assert len(last.token_logprobs) == len(last.token_ends)  # the end-of-turn entry is gone
        assert last.output_entropy < last.output_entropy_upper
        process = opened._process
    assert process is not None
    assert process.poll() is not None  # nothing is left running


@pytest.mark.parametrize(("limit", "told"), [(666, "the end is near"), (667, "out of memory")])
def test_a_dead_worker_is_one_clear_error(stand_in: None, teacher: Path, tmp_path: Path, limit: int, told: str) -> None:
    decoding = Decoding(0.0, 1.0, 0, limit, 1, 20, None)
    with (
        engine().open(str(teacher), None, {"python": str(tmp_path / "bin" / "python")}, tmp_path / "log") as opened,
        pytest.raises(DanteError, match=told),
    ):
        list(opened.generate([Request([1, 2], 0)], decoding))


def test_no_vllm_names_the_fix_and_the_fallback(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(DanteError, match=r"launch/vllm_cpu_env\.sh.*transformers"):
        engine().open(str(teacher), None, {"python": sys.executable}, tmp_path / "log")
    with pytest.raises(DanteError, match="no interpreter"):
        engine().open(str(teacher), None, {"python": str(tmp_path / "no" / "python")}, tmp_path / "log")


def test_the_worker_needs_only_the_standard_library_and_vllm() -> None:
    import ast

    tree = ast.parse(vllm_engine.WORKER.read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported <= set(sys.stdlib_module_names) | {"vllm"}


@pytest.mark.vllm
def test_real_vllm_agrees_with_transformers_on_given_text(teacher: Path, tmp_path: Path) -> None:
    """Sampled text is not compared (bf16 batching is not invariant): both score the same tokens, in float32."""
    from transformers import AutoModelForCausalLM

    python = os.environ.get("DANTE_VLLM_PYTHON")
    if not python:
        pytest.skip("DANTE_VLLM_PYTHON does not name an interpreter with vLLM")
    model = AutoModelForCausalLM.from_pretrained(teacher).eval()
    with VllmEngine("float32", 512, 1, 1, 50, True, 1).open(
        str(teacher), None, {"python": python}, tmp_path / "log"
    ) as opened:
        requests = [
            Request(
                opened.tokenizer.apply_chat_template(
                    [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
                ),
                0,
            )
            for text in ("Name a planet.", "What is 15 times 4?", "Qual è la capitale d'Italia?")
        ]
        answers = dict(opened.generate(requests, GREEDY))
        assert len(answers) == 3
        for index, request in enumerate(requests):
            generation = answers[index]
            if not generation.token_ends:
                continue
            reply = opened.tokenizer.encode(generation.text, add_special_tokens=False)
            ids = [*request.prompt_ids, *reply]
            (scored,) = opened.score([(ids, len(request.prompt_ids))], 20)
            logprobs, top = scored.token_logprobs, scored.top_logprobs
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, len(request.prompt_ids) - 1 : -1].double()
            exact = logits.log_softmax(-1)
            assert logprobs == pytest.approx(exact.gather(1, torch.tensor(reply)[:, None])[:, 0].tolist(), abs=2e-3)
            lower, upper = mean_entropy_bounds(torch.tensor(top).double().numpy(), 512)
            entropy = -(exact.exp() * exact).sum(-1).mean().item()
            assert lower - 1e-3 <= entropy <= upper + 1e-3
    assert json.dumps(opened.settings())


@pytest.mark.vllm
def test_real_vllm_ends_a_loop(teacher: Path, tmp_path: Path) -> None:
    from dante.text.repetition import RepetitionLimit, repeats

    python = os.environ.get("DANTE_VLLM_PYTHON")
    if not python:
        pytest.skip("DANTE_VLLM_PYTHON does not name an interpreter with vLLM")
    limit = RepetitionLimit(1, 8, 4)
    decoding = Decoding(0.0, 1.0, 0, 200, 1, 20, limit)
    with VllmEngine("float32", 512, 1, 1, 50, True, 1).open(
        str(teacher), None, {"python": python}, tmp_path / "log"
    ) as opened:
        requests = [Request(opened.tokenizer.encode(text), 0) for text in ("a a a a a a", "the the the the", "v v v")]
        answers = dict(opened.generate(requests, decoding))
        assert any(g.finish_reason == "repetition" for g in answers.values())
        for generation in answers.values():
            if generation.finish_reason == "repetition":
                assert repeats(opened.tokenizer.encode(generation.text), limit)


@pytest.mark.vllm
def test_real_vllm_samples_more_prompts_than_it_reads_at_once(teacher: Path, tmp_path: Path) -> None:
    """Seeded samples of many long prompts: vLLM on a CPU used to die of those that it read in two pieces."""
    python = os.environ.get("DANTE_VLLM_PYTHON")
    if not python:
        pytest.skip("DANTE_VLLM_PYTHON does not name an interpreter with vLLM")
    sampled = Decoding(0.7, 1.0, 0, 8, 1, 20, None)
    with VllmEngine("float32", 512, 1, 1, 50, True, 1).open(
        str(teacher), None, {"python": python}, tmp_path / "log"
    ) as opened:
        ids = opened.tokenizer.encode("many words " * 400)[:300]
        requests = [Request([*ids, number], seed) for number in range(8) for seed in (1, 2)] * 2
        answers = dict(opened.generate(requests, sampled))
    texts = [answers[i].text for i in range(len(requests))]
    assert texts[:16] == texts[16:]  # the same seeds
    assert texts[0::2] != texts[1::2]
