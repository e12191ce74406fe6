"""Template variables have one home: with them the teacher is asked, and nothing is trained on or scored with others."""

import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dante.cache.asked import check_rendering, read_by, rendered_with
from dante.cache.generate.requests import Renderer
from dante.cache.prompts.pocket import Prompt
from dante.cache.records.manifest import FILE_NAME
from dante.cache.records.provenance import leaves_that_differ
from dante.errors import DanteError
from dante.evaluate import score_stage
from dante.evaluate import stage as eval_stage
from dante.fit import stage as fit_stage
from dante.run.step import Step
from dante.teachers.engines.base import Request
from dante.teachers.engines.server.api import Chat, Completions, Words
from dante.teachers.smoke import TEMPLATE, smoke_tokenizer
from dante.teachers.teacher import Teacher
from tests.test_cache_generated import GREEDY

THINKING = TEMPLATE.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n{% endif %}{% endif %}",
)
OFF = {"enable_thinking": False}
DATED = "{{ strftime_now('%d %B %Y') }}" + TEMPLATE


def teacher_of(folder: Path, template: str) -> Path:
    """A teacher step without weights: its tokenizer is all that renders."""
    tokenizer = smoke_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder / "model")
    Teacher("thinker", "model", True, None, "Apache-2.0", None, chat_template=True).write(folder)
    return folder


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teacher_of(tmp_path_factory.mktemp("thinker"), THINKING)


def cache_asked_with(folder: Path, chat: dict[str, Any] | None) -> Path:
    """A cache's manifest alone; None: of a version that did not write down what was asked."""
    folder.mkdir(exist_ok=True)
    decoding = {"temperature": 0.0} | ({} if chat is None else {"chat": chat})
    (folder / FILE_NAME).write_text(json.dumps({"schema_version": 1, "decoding": decoding}))
    return folder


def asked(teacher: Path, chat: dict[str, Any], prompt: Any = "Why?") -> Request:
    renderer = Renderer(str(teacher / "model"), None, None, 0, chat)
    (one,) = renderer.ask([Prompt(prompt, "general", "en", "given")], [GREEDY])
    return one.job.request


def test_the_teacher_is_asked_with_the_variables_whatever_engine_it_runs_on(thinker: Path) -> None:
    """What runs the model, or takes ids, gets what was rendered here; a chat server gets the variables."""
    tokenizer = smoke_tokenizer()
    assert "<think>" not in tokenizer.decode(asked(thinker, {}).prompt_ids)
    request = asked(thinker, OFF)
    assert tokenizer.decode(request.prompt_ids).endswith("<think>\n\n</think>\n")
    words = Words(None, set(), 512)
    assert Completions().body(request, GREEDY, words, True)["prompt"] == request.prompt_ids
    assert Chat().body(request, GREEDY, words, True)["chat_template_kwargs"] == OFF
    assert "chat_template_kwargs" not in Chat().body(asked(thinker, {}), GREEDY, words, True)
    with pytest.raises(DanteError, match="takes no variables"):
        Chat().body(request, GREEDY, words, False)


def test_answers_to_other_variables_are_kept_apart_if_the_template_reads_them(thinker: Path, tmp_path: Path) -> None:
    plain = teacher_of(tmp_path, TEMPLATE)

    def identity(teacher: Path, chat: dict[str, Any]) -> dict[str, Any]:
        return Renderer(str(teacher / "model"), None, None, 0, chat).identity()

    assert identity(thinker, {}) != identity(thinker, OFF)
    assert identity(plain, {}) == identity(plain, OFF)
    assert read_by(THINKING, OFF | {"enable_think": 1}) == OFF


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        (OFF, OFF, True),
        ({}, {}, True),
        ({"enable_thinking": True}, {}, True),  # the template's own default, spelt out
        (OFF | {"other": 1}, OFF, True),  # nothing that the template reads
        ({}, OFF, False),
        (None, OFF, False),
        (OFF, {}, False),
        (OFF, {"enable_thinking": True}, False),
    ],
)
def test_a_difference_between_what_was_asked_and_what_is_rendered_is_an_error(
    thinker: Path, tmp_path: Path, then: dict[str, Any] | None, now: dict[str, Any], same: bool
) -> None:
    cache = cache_asked_with(tmp_path, then)
    if same:
        check_rendering(cache, thinker, now)
        return
    with pytest.raises(DanteError, match="two different prompts") as caught:
        check_rendering(cache, thinker, now)
    assert caught.value.fix.startswith("+chat.enable_thinking=false" if then else "leave chat.* out")


def test_a_template_that_reads_no_variables_is_never_a_difference(tmp_path: Path) -> None:
    check_rendering(cache_asked_with(tmp_path / "c", {}), teacher_of(tmp_path / "t", TEMPLATE), OFF)


def test_a_cache_that_does_not_know_its_teacher_s_decoding_is_not_compared(thinker: Path, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(json.dumps({"schema_version": 1, "decoding": None}))
    check_rendering(tmp_path, thinker, OFF)


def test_fit_and_every_evaluation_look_at_it_before_they_load_anything(thinker: Path, tmp_path: Path) -> None:
    init = tmp_path / "init"
    init.mkdir()
    (init / "step.json").write_text(json.dumps({"settings": {"chat": OFF}, "files": {}}))
    assert rendered_with(init) == OFF
    inputs = {"cache": cache_asked_with(tmp_path / "c", {}), "teacher": thinker, "init": init, "release": init}
    (init / "release.json").write_text('{"seed": 0}')
    trainer = {"devices": 1, "num_nodes": 1, "threads": 1}
    settings = SimpleNamespace(chat=OFF, model="init", fidelity={}, fit={}, losses={})
    resources = {"trainer": trainer, "run": {"dir": str(tmp_path / "run")}}
    step = Step("x", "x", settings, resources, inputs, tmp_path / "out", "", 0)
    # The fit's guard measures the student first; what is tested here is the stage itself.
    for run in (inspect.unwrap(fit_stage.run), score_stage.run, eval_stage.run):
        with pytest.raises(DanteError, match="two different prompts"):
            run(step)


def test_a_template_that_writes_the_day_asks_the_same_every_day(tmp_path: Path) -> None:
    """The student's side and the scores are rendered with a fixed date; so is what the teacher is asked."""
    text = smoke_tokenizer().decode(asked(teacher_of(tmp_path, DATED), {}).prompt_ids)
    assert text.startswith("01 January 2026")


def test_a_conversation_that_the_teacher_s_template_refuses_is_named(tmp_path: Path) -> None:
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + TEMPLATE
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    with pytest.raises(DanteError, match="no system here") as caught:
        asked(teacher_of(tmp_path, strict), {}, chat)
    assert "Why?" in caught.value.where


def test_nothing_asked_with_and_nothing_said_is_one_provenance() -> None:
    assert leaves_that_differ("decoding", {"chat": {}}, {}) == []
    assert leaves_that_differ("decoding", {"chat": OFF}, {}) != []
