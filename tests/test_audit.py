"""The audit of a student and a cache: what is wrong is found, what is fine is shown as it is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dante.cache import CacheWriter, Record
from dante.cache.__main__ import main
from dante.cache.records.index import IndexedCache
from dante.data.audit import audit, segments
from dante.data.table import row, rows
from dante.errors import DanteError
from dante.text.chat import ChatRenderer
from dante.text.stops import load_model

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def model_folder(folder: Path, words: str = "assistant user", template: str | None = CHATML, **generation: Any) -> Path:
    """A tokenizer with 40 merges of `words`, and a generation config; no weights are ever loaded."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>", "<|eot|>", "<pad>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([words], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<pad>", additional_special_tokens=["<|eot|>"]
    )
    tokenizer.chat_template = template
    folder.mkdir(parents=True)
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 300}))
    if generation:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("models") / "student", eos_token_id=1)


def record(index: int, **changes: Any) -> Record:
    return replace(Record(f"r{index}", f"question {index}", f"the answer {index} è 👍🏽", 0.5), **changes)


def cache(directory: Path, records: list[Record]) -> IndexedCache:
    CacheWriter(directory).add(records).seal(teacher={"name": "t"})
    return IndexedCache(directory)


def audited(found: IndexedCache, student: Path, teacher: Path | None = None, **limits: Any) -> Any:
    limits = {"max_tokens": None, "steps": None, "batch_records": None, "examples": 2} | limits
    return audit(found, load_model(str(student), True, {}), teacher and load_model(str(teacher), False, {}), **limits)


def test_a_fitting_pair_has_no_problems(tmp_path, student):
    records = [record(i, split="heldout" if i > 7 else "train") for i in range(10)]
    found = audited(cache(tmp_path, records), student, student, max_tokens=100, steps=6, batch_records=4)
    assert found.problems == []
    assert (found.records, found.train, found.closed, found.refused) == (10, 8, 10, 0)
    assert found.notes == ["6 steps of 4 records over 8 training records: 3.00 epochs"]
    renderer = load_model(str(student), True, {}).renderer
    assert found.tokens.tolist() == [row(r, renderer)["tokens"] for r in records]
    answers = [r.teacher_text.encode() for r in records]
    tokens = sum(row(r, renderer)["supervised_tokens"] - 1 for r in records)
    assert found.compression["all"] == (sum(map(len, answers)), tokens, tokens), "its own tokenizer is the teacher's"


def test_the_mask_is_shown_token_by_token(student):
    renderer = load_model(str(student), True, {}).renderer
    found = segments(renderer, record(1))
    ids = row(record(1), renderer)
    assert "".join(text for text, _ in found) == renderer.tokenizer.decode(ids["input_ids"])
    kinds = [kind for _, kind in found]
    assert kinds == ["prompt", *["target"] * (len(found) - 3), "end", "rest"]
    assert found[0][0].endswith("<|im_start|>assistant\n")
    assert "".join(text for text, kind in found if kind == "target") == record(1).teacher_text
    assert found[-2:] == [("<|im_end|>", "end"), ("\n", "rest")]
    assert ("👍", "target") in found, "bytes of one character are one piece"


def test_a_student_that_would_never_stop(tmp_path):
    never = model_folder(tmp_path / "never", eos_token_id=[2, 3])
    found = audited(cache(tmp_path / "c", [record(1)]), never)
    assert len(found.problems) == 1
    assert (
        "the student stops at '<|eot|>' (2), '<pad>' (3), but its template ends turns with '<|im_end|>' (1)"
        in (found.problems[0])
    )
    inherited = audited(cache(tmp_path / "d", [record(1)]), model_folder(tmp_path / "inherited"))
    assert "stops at '<|eot|>' (2)" in inherited.problems[0], "what transformers assumes of a llama that says nothing"
    silent = model_folder(tmp_path / "silent")
    (silent / "config.json").write_text(json.dumps({"model_type": "llama", "eos_token_id": None}))
    found = audited(cache(tmp_path / "e", [record(1)]), silent)
    assert found.problems == []
    assert "nothing says that it stops" in found.notes[0]


def test_teachers_tokens_in_the_text_and_a_teacher_without_a_template(tmp_path, student):
    teacher = model_folder(tmp_path / "teacher", words="the answer question", template=None, eos_token_id=2)
    records = [record(0), record(1, teacher_text="Fine.<|eot|>"), record(2, language="it"), record(3, language="it")]
    found = audited(cache(tmp_path / "c", records), student, teacher)
    assert any("1 answers hold a special token of the teacher as text: r1" in text for text in found.problems)
    assert any("1 records cannot be rendered exactly: r1 (the answer contains" in text for text in found.problems)
    assert (found.refused, found.closed) == (1, 3)
    assert any("the teacher's chat template cannot be masked" in text for text in found.notes)
    assert set(found.compression) == {"all", "unknown", "it"}
    size, ours, theirs = found.compression["all"]
    assert theirs is not None
    assert theirs < ours < size, "the teacher learnt these words, the student only bytes"
    italian = [len(load_model(str(teacher), False, {}).tokenizer(r.teacher_text)["input_ids"]) for r in records[2:]]
    assert found.compression["it"][2] == sum(italian)


def test_without_a_teacher_the_caches_own_counts_are_used(tmp_path, student):
    size = len(record(0).teacher_text.encode())
    known = [record(i, token_ends=[1, 2, size], token_logprobs=[-1.0] * 3) for i in range(2)]
    assert audited(cache(tmp_path / "a", known), student).compression["all"][2] == 6
    assert audited(cache(tmp_path / "b", [*known, record(5)]), student).compression["all"][2] is None


def test_long_cut_and_few_records(tmp_path, student):
    records = [record(0), record(1, teacher_text="word " * 40), record(2, finish_reason="length"), record(3)]
    found = audited(cache(tmp_path, records), student, max_tokens=90, steps=1, batch_records=2)
    longest = int(found.tokens.max())
    assert found.problems == [
        f"1 records (25.0%) are longer than a pack of 90 tokens (the longest has {longest}): fit.overlong decides "
        "whether they stop the fit or are left out"
    ]
    assert any("1 answers (25.0%) were cut off" in text for text in found.notes)
    assert any("0.50 epochs; some records are never shown" in text for text in found.notes)


def test_padding_with_the_end_of_turn_token_is_noted(tmp_path):
    folder = model_folder(tmp_path / "m", eos_token_id=1)
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"pad_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert any("masks by padding id" in text for text in audited(cache(tmp_path / "c", [record(0)]), folder).notes)


def test_the_command(tmp_path, student, capsys):
    directory = tmp_path / "c"
    evil = "<script>alert(1)</script> \x1b[2J"
    cache(directory, [record(0), record(1, teacher_text=evil), record(2)])
    step = tmp_path / "init"
    model_folder(step / "model", eos_token_id=1)
    words = [
        "audit",
        directory,
        "--student",
        step,
        "--teacher",
        student,
        "--max-tokens",
        500,
        "--html",
        tmp_path / "p.html",
    ]
    code = main(list(map(str, words)))
    printed = capsys.readouterr().out
    assert code == 0, "a finished step's folder holds the model in model/"
    assert "3 of 3 records end theirs with the end-of-turn token" in printed
    assert "\x1b[2J" not in printed
    html = (tmp_path / "p.html").read_text()
    assert "<script>" not in html
    assert '<span class="end">&lt;|im_end|&gt;</span>' in html
    assert html.count('class="prompt"') == 3 + 1, "three conversations and the legend"
    for changed, expected in (
        (["--max-tokens", 10], "longer than a pack"),
        (["--batch", 0], "at least 1"),
        (["--template", "enable"], "KEY=VALUE"),
        (["--student", tmp_path / "nobody"], "cannot be loaded"),
    ):
        assert main(list(map(str, [*words, *changed]))) == 1
        output = capsys.readouterr()
        assert expected in " ".join((output.out + output.err).split())


# --- tokenising together ----------------------------------------------------------------------------------------------


def test_records_rendered_together_are_as_rendered_alone(student):
    renderer = load_model(str(student), True, {}).renderer
    rng = np.random.default_rng(0)
    records = [record(i, teacher_text="è " * int(rng.integers(1, 30)) + "👍🏽" * (i % 3)) for i in range(40)]
    alone = [row(r, renderer) for r in records]
    for one, other in zip(rows(records, renderer), alone, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one if name != "id")
        assert one["id"] == other["id"]


def test_a_bad_record_among_many_is_named(student):
    renderer = load_model(str(student), True, {}).renderer
    records = [record(i, teacher_text="Bad.<|im_end|>" if i == 5 else "Good.") for i in range(8)]
    with pytest.raises(DanteError, match=r"record r5.*"):
        rows(records, renderer)


def test_settings_of_other_users_of_the_tokenizer_do_not_reach_the_table(student):
    """Padding and truncation are state of the tokenizer, and other parts of a run switch them on."""
    renderer = load_model(str(student), True, {}).renderer
    records = [record(i, teacher_text="word " * (i + 1)) for i in range(4)]
    expected = [item["input_ids"].tolist() for item in rows(records, renderer)]
    renderer.tokenizer(["a", "a long text"], padding=True, truncation=True, max_length=2)
    assert [item["input_ids"].tolist() for item in rows(records, renderer)] == expected
    assert isinstance(renderer, ChatRenderer)


def test_a_tokenizer_that_loses_text_is_refused():
    """One that drops spaces: tokens and mask look right, but no longer spell the answer."""
    words = ["<|im_start|>", "<|im_end|>", "<unk>", "Yes.", "No."]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", bos_token="<|im_start|>")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}"
    )
    renderer = ChatRenderer(tokenizer)
    assert sum(renderer.render("No.", "Yes.").supervised) == 2
    with pytest.raises(DanteError, match=r"do not decode to the answer: expected ' No\.', found 'No\.'"):
        renderer.render("No.", "Yes. No.")
