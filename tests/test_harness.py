"""The harness's numbers: the tokens it shows, the log-likelihoods it finds, and what its own command line prints."""

import json
import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dante.errors import DanteError
from dante.evaluate.suites.continuation import harness
from dante.evaluate.suites.continuation.choices import ChoiceItem
from dante.evaluate.suites.continuation.harness import ChoiceResult, check_tokens, read_items, run_choices, write_task
from dante.students.load import load_pretrained
from dante.text.chat import ChatRenderer
from dante.text.tokenizer import load_tokenizer


def item(name: str, question: str, options: list[str], gold: int, level: str = "family") -> ChoiceItem:
    return ChoiceItem(name, question, options, gold, level, [f"{name}/{place}" for place in range(4)])


ITEMS = [
    item("one", "What is 2+2?", ["Four.", "It is a river in France.", "Yes, I do!", "Perché no?"], 0),
    # A question of digits, template syntax, and white space at the end: nothing may read it as anything but text.
    item("two", "17", ["{{ question }}", "A prime.", "12 * 3 = 36", "The end\nof it."], 1),
    item("three", "Dimmi {{ gold }} di più. ", ["èèèèèè", "Zq#;%@^~", "%$#@!&*^", "KJWX#Q"], 2, "domain"),
    # Two options that differ in their last token only.
    item("four", "Hello?", ["I am a.", "I am a?", "Hello! How are you?", "No."], 2),
]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    write_task(folder, ITEMS)
    return folder


def run(model: Path, task: Path, **settings: Any) -> ChoiceResult:
    return run_choices(model, task, **({"batch_size": 3, "dtype": torch.float32, "device": "cpu"} | settings))


@pytest.fixture(scope="module")
def result(model: Path, task: Path) -> ChoiceResult:
    return run(model, task)


def expected_ids(model: Path) -> list[list[list[int]]]:
    """Tokens of each item's options, each behind its prompt as in training."""
    renderer = ChatRenderer(load_tokenizer(model))

    def ids(question: str, option: str) -> list[int]:
        return renderer.prompt_ids(question) + renderer.tokenizer(option, add_special_tokens=False)["input_ids"]

    return [[ids(item.question, option) for option in item.options] for item in ITEMS]


def test_the_model_sees_the_training_tokens_and_nothing_else(
    model: Path, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    load = harness.load_student

    def watched(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
        loaded = load(folder, dtype=dtype)
        loaded.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs[0].tolist()))
        return loaded

    monkeypatch.setattr(harness, "load_student", watched)
    run(model, task, batch_size=1)  # one row a pass: no padding to tell apart from tokens
    # The last token is scored, never read. Two options of item four share a row.
    wanted = {tuple(ids[:-1]) for item in expected_ids(model) for ids in item}
    assert len(wanted) == 15
    assert {tuple(row) for row in seen} == wanted
    assert len(seen) == 15
    beginning = load_tokenizer(model).decode(seen[0])
    assert beginning.startswith("<|im_start|>system\nYou are a small model.<|im_end|>\n<|im_start|>user\n")
    assert beginning.count("<|im_start|>") == 3


def reference(model: Path) -> list[list[float]]:
    """Natural-log probability of each option by plain transformers, one sequence at a time.

    The harness counts white space at the end of the prompt as the option's: scoring starts at the newline after
    `<|im_start|>assistant`.
    """
    network, renderer = load_pretrained(model, torch.float32).eval(), ChatRenderer(load_tokenizer(model))
    found = []
    for item, options in zip(ITEMS, expected_ids(model), strict=True):
        prompt = renderer.prompt_ids(item.question)
        assert renderer.tokenizer.decode(prompt[-1:]) == "\n"
        row = []
        for ids in options:
            with torch.no_grad():
                log_p = network(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
            row.append(sum(float(log_p[at - 1, ids[at]]) for at in range(len(prompt) - 1, len(ids))))
        found.append(row)
    return found


def test_log_likelihoods_and_choices_are_those_of_plain_transformers(model: Path, result: ChoiceResult) -> None:
    expected = reference(model)
    assert [answer.id for answer in result.answers] == ["one", "two", "three", "four"]
    for item, answer, row in zip(ITEMS, result.answers, expected, strict=True):
        assert answer.log_likelihoods == pytest.approx(row, abs=1e-4)
        assert (answer.gold, answer.level) == (item.gold, item.level)
        assert answer.picked == int(np.argmax(row))
        assert answer.picked_norm == int(np.argmax([v / len(o) for v, o in zip(row, item.options, strict=True)]))
    for metric, stderr, picked in (
        (result.acc, result.acc_stderr, [a.picked for a in result.answers]),
        (result.acc_norm, result.acc_norm_stderr, [a.picked_norm for a in result.answers]),
    ):
        right = np.array(picked) == [item.gold for item in ITEMS]
        assert metric == right.mean()
        assert stderr == pytest.approx(right.std(ddof=1) / np.sqrt(4))
    assert (result.n, result.n_shot) == (4, 0)


def test_acc_norm_divides_by_characters_and_not_by_bytes(model: Path, result: ChoiceResult) -> None:
    """In item three the accented letters take two bytes each: the two ways of counting pick differently."""
    options, row = ITEMS[2].options, reference(model)[2]
    per_byte = [value / len(option.encode()) for value, option in zip(row, options, strict=True)]
    assert result.answers[2].picked_norm != int(np.argmax(per_byte))


def test_the_command_line_prints_the_same_numbers(
    model: Path, task: Path, result: ChoiceResult, tmp_path: Path
) -> None:
    """The command in the result is given as it stands, by another process inside the task's folder."""
    command = f"{result.command} --output_path {shlex.quote(str(tmp_path / 'out'))} --log_samples"
    environment = os.environ | {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, shell=True, cwd=task, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("out/*/results_*.json")
    printed = json.loads(path.read_text())
    found = printed["results"]["continuation"]
    assert found["acc,none"] == result.acc
    assert found["acc_norm,none"] == result.acc_norm
    assert found["acc_stderr,none"] == result.acc_stderr
    assert found["acc_norm_stderr,none"] == result.acc_norm_stderr
    assert printed["n-samples"]["continuation"]["effective"] == result.n
    assert printed["lm_eval_version"] == result.harness_version
    (path,) = tmp_path.glob("out/*/samples_*.jsonl")
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    theirs = [[float(value) for value, _ in s["filtered_resps"]] for s in sorted(samples, key=lambda s: s["doc_id"])]
    assert theirs == [pytest.approx(answer.log_likelihoods, abs=1e-4) for answer in result.answers]


OUTSIDE = """
import logging, os, random, socket, sys, torch
from pathlib import Path
attempts = []
def refuse(*arguments, **named):
    attempts.append(arguments)
    raise OSError("no network here")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from dante.evaluate.suites.continuation.harness import run_choices
before = random.getstate(), dict(os.environ)
result = run_choices(Path(sys.argv[1]), Path(sys.argv[2]), batch_size=4, dtype=torch.float32, device="cpu")
assert result.n == 4
assert not attempts, attempts
assert (random.getstate(), dict(os.environ)) == before
handlers = [handler for name in ("datasets", "transformers") for handler in logging.getLogger(name).handlers]
assert handlers
assert all(handler.stream in (sys.stderr, sys.__stderr__) for handler in handlers)
"""


def test_nothing_is_printed_written_or_fetched(model: Path, task: Path, tmp_path: Path) -> None:
    """In a process of its own, with an empty home, without HF_HUB_OFFLINE, and with sockets that refuse.

    Python's own random state is compared there, too: here the annotation checks of the tests draw from it.
    """
    home, work, temporary = (tmp_path / name for name in ("home", "work", "tmp"))
    for folder in (home, work, temporary):
        folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(Path(harness.__file__).parents[2])}
    before = {path: path.read_bytes() for folder in (model, task) for path in folder.iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE, str(model), str(task)],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    assert not [path for folder in (home, work, temporary) for path in folder.rglob("*") if path.is_file()]
    assert {path: path.read_bytes() for folder in (model, task) for path in folder.iterdir()} == before


def test_the_caller_keeps_its_state(model: Path, task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_XET_HIGH_PERFORMANCE", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)  # importing it sets an environment variable

    def state() -> tuple[Any, ...]:
        loggers = [logging.getLogger(name) for name in (None, "lm_eval", "datasets", "transformers")]
        numpy_state = np.random.get_state()
        return (
            dict(os.environ),
            [logger.level for logger in loggers],
            numpy_state[1].tolist(),  # type: ignore[union-attr]
            torch.random.get_rng_state().tolist(),
            (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()),
            (sys.stdout, sys.stderr, os.getcwd()),
        )

    before = state()
    run(model, task, limit=1)
    assert state() == before


def test_state_comes_back_after_an_error(task: Path, tmp_path: Path) -> None:
    level, error = logging.getLogger("lm_eval").level, sys.stderr
    with pytest.raises(DanteError, match="cannot be loaded"):
        run(tmp_path / "missing", task)
    assert (logging.getLogger("lm_eval").level, sys.stderr) == (level, error)
    assert sorted(path.name for path in task.iterdir()) == ["continuation.yaml", "items.jsonl"]


def test_progress_and_limit(model: Path, task: Path) -> None:
    steps: list[int] = []
    result = run(model, task, limit=2, advance=steps.append)
    assert sum(steps) == 8
    assert max(steps) == 3
    assert [answer.id for answer in result.answers] == ["one", "two"]
    assert result.command.endswith("--limit 2")
    assert run(model, task, limit=1).acc_stderr is None
    steps.clear()
    run(model, task, advance=steps.append)
    assert sum(steps) == 16


def test_items_survive_the_folder(task: Path) -> None:
    assert read_items(task) == ITEMS


def test_rows(result: ChoiceResult) -> None:
    norm, plain = result.rows("student", 7)
    assert norm == {
        "model": "student",
        "task": "continuation",
        "metric": "acc_norm",
        "value": result.acc_norm,
        "stderr": result.acc_norm_stderr,
        "n": 4,
        "n_shot": 0,
        "harness": "lm-eval",
        "harness_version": result.harness_version,
        "decoding": "log-likelihood of four continuations, float32",
        "seed": 7,
    }
    assert plain == norm | {"metric": "acc", "value": result.acc, "stderr": result.acc_stderr}


def harness_model(model: Path, **settings: Any) -> Any:
    from lm_eval.models.huggingface import HFLM

    network = load_pretrained(model, torch.float32)
    return HFLM(pretrained=network, **({"tokenizer": load_tokenizer(model), "add_bos_token": False} | settings))


def test_another_prompt_than_in_training_is_refused(model: Path) -> None:
    tokenizer = load_tokenizer(model)
    tokenizer.chat_template = str(tokenizer.chat_template).replace("You are a small model.", "You are another.")
    check_tokens(harness_model(model), ChatRenderer(load_tokenizer(model)), ITEMS)
    with pytest.raises(DanteError, match=r"other tokens than training did, for 'Four\.'.*item one"):
        check_tokens(harness_model(model, tokenizer=tokenizer), ChatRenderer(load_tokenizer(model)), ITEMS)


def test_a_question_longer_than_the_context_is_refused_rather_than_cut(model: Path) -> None:
    long = item("long", "x " * 2000, ["a", "b", "c", "d"], 0)
    with pytest.raises(DanteError, match="context 1024.*item long"):
        check_tokens(harness_model(model), ChatRenderer(load_tokenizer(model)), [long])
