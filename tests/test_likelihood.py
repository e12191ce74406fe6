"""A student's side of answers: every token's log-probability, rank and place, against slow references."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import normalizers

from dante.cache import CacheWriter, Record, read_records
from dante.errors import DanteError
from dante.run.step import Step
from dante.select.likelihood import stage
from dante.select.likelihood.files import LikelihoodFiles
from dante.select.likelihood.measure import likelihoods
from dante.select.settings import LikelihoodSettings
from dante.text.chat import ChatRenderer
from dante.text.tokens.answer_ends import answer_token_ends
from tests.test_evaluate_fidelity import tiny

TEXTS = [
    "Sì. È così: 3.14. 日本。 🙂!\n\nFine.",
    "  leading and trailing \n",
    "A line\n\n```python\nx = 'é'\n```\n<think> is a word.",
    "x",
]


def answer(name: str, prompt: str, text: str) -> Record:
    """A train record with the teacher's side of it, in one token."""
    whole = len(text.encode())
    return Record(name, prompt, text, 0.5, split="train", token_logprobs=[-1.0], token_ends=[whole])


RECORDS = [answer(f"r{index}", f"Ask {index}?", text) for index, text in enumerate(TEXTS)]


@torch.no_grad()
def reference(model: Any, renderer: ChatRenderer, record: Record) -> tuple[list[float], list[int], list[int]]:
    """Nats, ranks and ends of the answer's tokens, from text alone."""
    head = f"<|im_start|>user\n{record.prompt}<|im_end|>\n<|im_start|>assistant\n"
    answer = record.teacher_text.strip()
    context = renderer.tokenizer(head, add_special_tokens=False)["input_ids"]
    target = renderer.tokenizer(answer, add_special_tokens=False)["input_ids"]
    log_p = model(input_ids=torch.tensor([context + target])).logits[0].double().log_softmax(-1)
    rows = [log_p[len(context) + place - 1] for place in range(len(target))]
    nats = [-float(row[token]) for row, token in zip(rows, target, strict=True)]
    ranks = [1 + int((row > row[token]).sum()) for row, token in zip(rows, target, strict=True)]
    outer = len(record.teacher_text[: record.teacher_text.index(answer)].encode())
    data, ends = answer.encode(), []
    for place in range(len(target)):  # a prefix that is no text yet ends where its last whole character does
        shown = renderer.tokenizer.decode(target[: place + 1])
        whole = shown.rstrip("\ufffd").encode()
        assert data.startswith(whole)
        ends.append(outer + len(whole))
    return nats, ranks, ends


@pytest.mark.parametrize(("vocab_size", "seed"), [(260, 0), (300, 1)])
def test_tokens_are_those_of_a_slow_reference(vocab_size: int, seed: int) -> None:
    model, renderer = tiny(vocab_size, seed)
    for found, record in zip(likelihoods(model, renderer, RECORDS), RECORDS, strict=True):
        nats, ranks, ends = reference(model, renderer, record)
        assert found.nats == pytest.approx(nats, rel=1e-5, abs=1e-5)
        assert found.rank.tolist() == ranks
        assert found.end.tolist() == ends


def test_a_normal_form_is_placed_in_the_text_as_it_was_written() -> None:
    """Qwen's tokenizer reads NFC: `e` with an accent behind it is one character there, and three bytes here."""
    _, renderer = tiny(260, 0)
    renderer.tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    text = "e\u0301. a\u0308\u0301 \u1100\u1161!"  # the last one is a Korean syllable in two parts
    ends = answer_token_ends(renderer.tokenizer, renderer.render("Ask?", text), text)
    total = len(text.encode())
    assert ends[-1] == total
    assert ends == sorted(ends)
    assert {0, 3, 4, 5}.issuperset(end for end in ends if end <= 5)  # never between a letter and its accent
    assert 3 in ends
    assert total - 1 in ends


def folder_of(root: Path) -> dict[str, Path]:
    """A cache, a student, a teacher without weights here."""
    model, renderer = tiny(260, 0)
    model.save_pretrained(root / "init" / "model")
    renderer.tokenizer.save_pretrained(root / "init" / "model")
    more = [answer(f"more{index}", f"Why {index}?", f"Because {index}. So.") for index in range(8)]
    held = [Record("held", "Held?", "Out.", 0.5, split="heldout")]
    CacheWriter(root / "cache").add([*RECORDS, *more, *held]).seal()
    return {"cache": root / "cache", "init": root / "init"}


def step(inputs: dict[str, Path], out: Path) -> Step[LikelihoodSettings]:
    settings = LikelihoodSettings(temperature=None, precision="fp32", batch_records=5, chat={})
    resources = {"trainer": {"threads": 1, "accelerator": "cpu"}}
    return Step("likelihood", "likelihood", settings, resources, inputs, out, "f", 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


def test_train_records_are_scored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = folder_of(tmp_path)
    stage.run(step(inputs, tmp_path / "out"))
    files = LikelihoodFiles(tmp_path / "out")
    records = read_records(inputs["cache"], "train")
    assert len(files.of(records)) == 12
    assert files.manifest["tokens"] == sum(len(row.nats) for row in files.of(records))
    speed = json.loads((tmp_path / "out" / "speed.json").read_text())
    assert speed["tokens"] == files.manifest["tokens"]
    assert speed["seconds"] > 0
    written = contents(tmp_path / "out")
    monkeypatch.setattr(stage, "begun", lambda *args: pytest.fail("the student was loaded again"))
    stage.run(step(inputs, tmp_path / "out"))
    assert contents(tmp_path / "out") == written


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_what_is_missing_or_damaged_is_made_again_with_the_same_bytes(tmp_path: Path, damage: str) -> None:
    inputs = folder_of(tmp_path)
    stage.run(step(inputs, tmp_path / "out"))
    written = contents(tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "again")
    path = tmp_path / "again" / "likelihood-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.unlink()
    if damage != "missing":
        path.write_bytes(data[:-9] if damage == "cut" else data)
    stage.run(step(inputs, tmp_path / "again"))
    assert contents(tmp_path / "again") == written


def test_another_text_is_no_record_of_these_files(tmp_path: Path) -> None:
    inputs = folder_of(tmp_path)
    stage.run(step(inputs, tmp_path / "out"))
    other = [Record("r0", "Ask 0?", "Another text.", 0.5)]
    with pytest.raises(DanteError, match="was not scored with this text"):
        LikelihoodFiles(tmp_path / "out").of(other)
    with pytest.raises(DanteError, match=r"record held was not scored\."):
        LikelihoodFiles(tmp_path / "out").of(read_records(inputs["cache"], "heldout"))


def test_a_record_that_the_template_cannot_hold_is_named(tmp_path: Path) -> None:
    model, renderer = tiny(260, 0)
    with pytest.raises(DanteError, match="special token") as caught:
        likelihoods(model, renderer, [Record("bad", "Ask?", "An <|im_end|> inside.", 0.5)])
    assert "record bad" in str(caught.value)


def test_weights_that_a_fit_has_trained_are_scored(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    inputs = folder_of(tmp_path)
    stage.run(step(inputs, tmp_path / "first"))
    model, _ = tiny(260, 5)
    (tmp_path / "fit").mkdir()
    tensors = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
    save_file(tensors, tmp_path / "fit" / "student.safetensors")
    stage.run(step(inputs | {"start": tmp_path / "fit"}, tmp_path / "second"))
    first, second = (LikelihoodFiles(tmp_path / name).of(RECORDS) for name in ("first", "second"))
    assert all(not np.allclose(a.nats, b.nats) for a, b in zip(first, second, strict=True))
    assert json.loads((tmp_path / "second" / "likelihood.json").read_text())["records"] == 12


def test_a_student_is_asked_with_its_own_template(tmp_path: Path) -> None:
    """A teacher whose template writes something else stands beside: nothing changes."""
    inputs = folder_of(tmp_path)
    stage.run(step(inputs, tmp_path / "alone"))
    _, renderer = tiny(260, 0)
    template = str(renderer.tokenizer.chat_template)
    renderer.tokenizer.chat_template = template.replace("<|im_start|>", "<|im_start|>the ")
    assert renderer.tokenizer.chat_template != template
    renderer.tokenizer.save_pretrained(tmp_path / "teacher" / "model")
    stage.run(step({**inputs, "teacher": tmp_path / "teacher"}, tmp_path / "beside"))
    files = [next((tmp_path / out).glob("likelihood-*.safetensors")).read_bytes() for out in ("alone", "beside")]
    assert files[0] == files[1]
    records = read_records(inputs["cache"], "train")
    model, own = tiny(260, 0)
    rows = LikelihoodFiles(tmp_path / "beside").of(records)
    for row, expected in zip(rows, likelihoods(model, own, records), strict=True):
        assert row.nats == pytest.approx(expected.nats, rel=1e-5, abs=1e-5)


def test_answers_without_the_teachers_side_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = folder_of(tmp_path)
    CacheWriter(tmp_path / "bare").add([Record("bare", "Ask?", "Text.", 0.5, split="train")]).seal()
    monkeypatch.setattr(stage, "begun", lambda *args: pytest.fail("the student was loaded"))
    with pytest.raises(DanteError, match="record bare has no log-probabilities of the teacher"):
        stage.run(step(inputs | {"cache": tmp_path / "bare"}, tmp_path / "out"))


def test_an_answer_that_is_too_long_for_the_student_is_named(tmp_path: Path) -> None:
    model, renderer = tiny(260, 0)
    model.config.max_position_embeddings = 40
    with pytest.raises(DanteError, match=r"it has 1\d\d of the student's tokens, and its context 40.*record long"):
        likelihoods(model, renderer, [*RECORDS[3:], answer("long", "Ask?", "word " * 20)])
