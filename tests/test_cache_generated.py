"""Generation into a cache: an interrupted one that continues equals one that was never interrupted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dante.cache import Record, read_records, verify
from dante.cache.generated import GeneratedCache
from dante.cache.language import in_its_language, spoken
from dante.cache.sources import JsonlPrompts, PocketPrompts
from dante.errors import DanteError
from dante.pipeline import Step
from dante.teachers.engine import Decoding, Request
from dante.teachers.repetition import RepetitionLimit
from dante.teachers.smoke import SmokeTeacher
from dante.teachers.transformers_engine import TransformersEngine

GREEDY = Decoding(0.0, 1.0, 0, 20, 1, 20, RepetitionLimit(2, 8, 4))
SAMPLED = Decoding(1.0, 1.0, 0, 20, 1, 20, None)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    SmokeTeacher(seed=0).make(folder)
    return folder


def step(teacher: Path, out: Path, seed: int = 7) -> Step:
    return Step("cache", "cache", {}, {}, {"teacher": teacher}, out, "", seed)


class Counted(TransformersEngine):
    """Counts batches, and fails in the middle of one when told to."""

    def __init__(self, fail_in: int | None = None) -> None:
        super().__init__("float32", 4, "cpu")
        self.batches, self.fail_in = 0, fail_in

    def generate(self, requests: Any, decoding: Any) -> Any:
        for count, pair in enumerate(super().generate(requests, decoding)):
            if self.batches == self.fail_in and count == 2:
                raise KeyboardInterrupt
            yield pair
        self.batches += 1


def source(engine: TransformersEngine, decoding: Decoding = GREEDY, count: int = 24) -> GeneratedCache:
    return GeneratedCache(
        PocketPrompts(count, 0),
        engine,
        decoding,
        batch_requests=6,
        heldout=3,
        validation=2,
        drop_truncated=False,
        drop_wrong_language=False,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("records-*"))}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_interrupted_and_continued_equals_uninterrupted(teacher: Path, tmp_path: Path, temperature: float) -> None:
    decoding = Decoding(temperature, 1.0, 0, 20, 2 if temperature else 1, 20, None)
    whole, broken, rest = Counted(), Counted(fail_in=2), Counted()
    plain = source(whole, decoding).build(step(teacher, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        source(broken, decoding).build(step(teacher, tmp_path / "broken"))
    assert not (tmp_path / "broken" / "manifest.json").exists()
    resumed = source(rest, decoding).build(step(teacher, tmp_path / "broken"))
    assert rest.batches == whole.batches - 2  # two were done; the one that was cut off is redone whole
    assert contents(tmp_path / "whole") == contents(tmp_path / "broken")
    assert plain == resumed
    assert not (tmp_path / "broken" / "batches").exists()
    verify(tmp_path / "broken")


def test_batches_of_another_plan_are_not_reused(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        source(Counted(fail_in=2)).build(step(teacher, tmp_path))
    engine = Counted()
    source(engine, Decoding(0.0, 1.0, 0, 12, 1, 20, None)).build(step(teacher, tmp_path))
    assert engine.batches == 4


def test_records_and_manifest(teacher: Path, tmp_path: Path) -> None:
    manifest = GeneratedCache(PocketPrompts(24, 0), Counted(), SAMPLED, 24, 3, 2, True, False).build(
        step(teacher, tmp_path)
    )
    records = read_records(tmp_path)
    dropped = {f["name"]: f["dropped"] for f in manifest["filters"]}
    assert len(records) + sum(dropped.values()) == 24
    assert dropped["truncated"] > 0
    assert {r.finish_reason for r in records} == {"stop"}
    assert sum(r.split == "heldout" for r in records) == 3
    assert manifest["teacher"]["name"] == "smoke"
    assert manifest["engine"]["name"] == "transformers"
    assert manifest["engine"]["version"]
    assert manifest["decoding"]["max_new_tokens"] == 20
    for record in records:
        assert 0 < record.output_entropy <= record.output_entropy_upper
        assert len(record.token_logprobs) == len(record.token_ends)
        assert record.token_ends[-1] == len(record.teacher_text.encode("utf-8"))


def test_every_answer_belongs_to_its_prompt(teacher: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source(Counted()).build(step(teacher, tmp_path))
    tokenizer = AutoTokenizer.from_pretrained(teacher / "model")
    records = read_records(tmp_path)
    with TransformersEngine("float32", 1, "cpu").open(str(teacher / "model"), None, {}, tmp_path / "log") as engine:
        for record in records[:12]:
            messages = (
                record.prompt if isinstance(record.prompt, list) else [{"role": "user", "content": record.prompt}]
            )
            ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
            ((_, alone),) = engine.generate([Request(ids, 0)], GREEDY)
            assert alone.text == record.teacher_text
            assert alone.output_entropy == pytest.approx(record.output_entropy, abs=1e-4)


def test_prompts_from_a_file(teacher: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "Name a planet.", "language": "en"}\n{"prompt": 5}\n')
    with pytest.raises(DanteError, match="line 2"):
        JsonlPrompts(str(path), "CC0").load()
    path.write_text("\n".join(json.dumps({"prompt": f"Question {i}?", "domain": "x"}) for i in range(8)))
    cache = GeneratedCache(JsonlPrompts(str(path), "CC0"), Counted(), GREEDY, 8, 1, 1, False, False)
    manifest = cache.build(step(teacher, tmp_path / "out"))
    assert manifest["licences"]["prompts"] == "CC0"
    assert {r.domain for r in read_records(tmp_path / "out")} == {"x"}


def test_language_of_an_answer() -> None:
    assert spoken("The cat is on the table and it is not my cat.") == "en"
    assert spoken("Il gatto è sul tavolo e non è il mio gatto, ma questa è una prova.") == "it"
    assert spoken("print(x)") is None
    english = Record("a", "Che cosa è un verbo?", "A verb is the part of the sentence that is in motion.", 1.0)
    assert not in_its_language(replace(english, language="it"))
    assert in_its_language(replace(english, language="en"))
    assert in_its_language(replace(english, language="sw"))


def test_too_few_answers_say_what_was_dropped(teacher: Path, tmp_path: Path) -> None:
    short = Decoding(0.0, 1.0, 0, 1, 1, 20, None)
    cache = GeneratedCache(PocketPrompts(6, 0), Counted(), short, 6, 2, 1, True, False)
    with pytest.raises(DanteError, match="dropped"):
        cache.build(step(teacher, tmp_path))
