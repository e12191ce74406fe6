"""Generation into a cache: an interrupted one that continues equals one that was never interrupted."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dante.cache import Record, read_records, verify
from dante.cache.asked import asked_with, asked_without_system_prompt
from dante.cache.filters import Truncated, WrongLanguage
from dante.cache.filters.language import in_its_language, spoken
from dante.cache.generate.answer_store import AnswerStore
from dante.cache.generate.consistency import LastNumber, SelfConsistency
from dante.cache.generate.generated import GeneratedCache
from dante.cache.prompts.sources import JsonlPrompts, PocketPrompts
from dante.errors import DanteError
from dante.run.step import Step
from dante.teachers.engines.base import Decoding, Generation, Request
from dante.teachers.engines.transformers_engine import TransformersEngine
from dante.teachers.smoke import SmokeTeacher
from dante.text.repetition import RepetitionLimit

GREEDY = Decoding(0.0, 1.0, 0, 20, 1, 20, RepetitionLimit(2, 8, 4))
SAMPLED = Decoding(1.0, 1.0, 0, 20, 1, 20, None)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    SmokeTeacher(seed=0).make(folder)
    return folder


def step(teacher: Path, out: Path, seed: int = 7, store: Path | None = None) -> Step:
    resources = {"store": str(store or out.parent / f"{out.name}-answers")}
    return Step("cache", "cache", {}, resources, {"teacher": teacher}, out, "", seed)


class Counted(TransformersEngine):
    """Counts batches, and fails in the middle of one when told to."""

    def __init__(self, fail_in: int | None = None, together: int = 4) -> None:
        super().__init__("float32", together, "cpu")
        self.batches, self.fail_in = 0, fail_in

    def generate(self, requests: Any, decoding: Any) -> Any:
        for count, pair in enumerate(super().generate(requests, decoding)):
            if self.batches == self.fail_in and count == 2:
                raise KeyboardInterrupt
            yield pair
        self.batches += 1


def source(engine: Any, decoding: Decoding = GREEDY, count: int = 24, **more: Any) -> GeneratedCache:
    settings: dict[str, Any] = {
        "prompts": PocketPrompts(count, 0),
        "system_prompt": None,
        "chat": {},
        "consistency": None,
        "normalise_thinking": False,
        "batch_requests": 6,
        "filters": {},
        "heldout": 3,
        "validation": 2,
    }
    return GeneratedCache(engine=engine, decoding=decoding, **(settings | more))


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
    verify(tmp_path / "broken")


def test_answers_to_other_decoding_are_not_reused(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        source(Counted(fail_in=2)).build(step(teacher, tmp_path))
    engine = Counted()
    source(engine, Decoding(0.0, 1.0, 0, 12, 1, 20, None)).build(step(teacher, tmp_path))
    assert engine.batches == 4


def test_a_second_cache_asks_only_for_what_is_missing(teacher: Path, tmp_path: Path) -> None:
    """More prompts, other splits and other filters go on from the answers that are there."""
    (tmp_path / "runs").mkdir()
    first, more, same = Counted(), Counted(), Counted()
    steps = [replace(step(teacher, tmp_path / "runs" / ".steps" / name), resources={}) for name in "abc"]
    source(first, count=12).build(steps[0])
    source(more, count=24).build(steps[1])
    source(same, count=18, filters={"language": WrongLanguage()}, heldout=1).build(steps[2])
    assert (first.batches, more.batches, same.batches) == (2, 2, 0)
    assert len(list((tmp_path / "runs" / ".answers").iterdir())) == 1
    whole = Counted()
    source(whole, count=24).build(replace(step(teacher, tmp_path / "other" / ".steps" / "x"), resources={}))
    assert contents(steps[1].out) == contents(tmp_path / "other" / ".steps" / "x")


class Serving(Counted):
    """Like a server: its answers do not depend on each other; and it counts what it is asked."""

    keeps_answers = True

    def __init__(self, fail_in: int | None = None) -> None:
        super().__init__(fail_in, together=1)  # beside others an answer's log-probabilities round otherwise
        self.asked = 0

    def generate(self, requests: Any, decoding: Any) -> Any:
        self.asked += len(requests)
        yield from super().generate(requests, decoding)


def test_answers_that_a_failing_server_gave_are_kept(teacher: Path, tmp_path: Path) -> None:
    source(Serving()).build(step(teacher, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        source(Serving(fail_in=1)).build(step(teacher, tmp_path / "broken"))
    rest = Serving()
    source(rest).build(step(teacher, tmp_path / "broken"))
    assert rest.asked == 24 - 6 - 2  # a whole batch and two answers were there
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_damaged_answers_are_found_and_only_their_batch_is_redone(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source(Counted()).build(step(teacher, tmp_path / "whole"))
    shutil.copytree(tmp_path / "whole-answers", tmp_path / "hurt-answers")
    shards = sorted((tmp_path / "hurt-answers").glob("answers-*"))
    assert len(shards) == 4
    data = bytearray(shards[0].read_bytes())
    data[len(data) // 2] ^= 1
    shards[0].write_bytes(data)
    shards[1].write_bytes(shards[1].read_bytes()[:-9])
    shards[2].unlink()
    engine = Counted()
    source(engine).build(step(teacher, tmp_path / "hurt"))
    assert engine.batches == 3
    assert capsys.readouterr().out.count("is damaged") == 2
    assert contents(tmp_path / "hurt") == contents(tmp_path / "whole")


def test_no_flipped_byte_of_an_answer_goes_unnoticed(tmp_path: Path) -> None:
    provenance = {"teacher": "a"}
    answers = {f"k{i}": Generation(f"text {i}", "stop", [-0.5, -1.25], [4, 6], 0.5 + i, 1.0 + i) for i in range(8)}
    AnswerStore(tmp_path, provenance).commit(answers)
    (shard,) = tmp_path.glob("answers-*")
    sound = shard.read_bytes()
    for place in range(len(sound)):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << (place % 8)
        shard.write_bytes(damaged)
        found = AnswerStore(tmp_path, provenance)
        assert all(found[key] == answers[key] for key in answers if key in found), place
        for aside in tmp_path.glob("*.damaged"):
            aside.unlink()
    shard.write_bytes(sound)
    assert all(AnswerStore(tmp_path, provenance)[key] == answers[key] for key in answers)


class Newer(Counted):
    """An engine of a later version."""

    def open(self, *arguments: Any) -> Any:
        super().open(*arguments)
        self.version = "5.99"
        return self


def test_answers_of_another_provenance_are_refused_by_name(teacher: Path, tmp_path: Path) -> None:
    store = tmp_path / "answers"
    source(Counted()).build(step(teacher, tmp_path / "a", store=store))
    other = Counted()
    other.dtype = "bfloat16"
    with pytest.raises(DanteError, match=r"engine\.dtype: 'float32' and 'bfloat16'"):
        source(other).build(step(teacher, tmp_path / "b", store=store))
    SmokeTeacher(seed=1, train_steps=1).make(tmp_path / "teacher")
    with pytest.raises(DanteError, match=r"teacher\.weights: "):
        source(Counted()).build(step(tmp_path / "teacher", tmp_path / "b", store=store))
    with pytest.raises(DanteError, match=r"version: '[0-9.]+' and '5\.99'"):
        source(Newer(), count=30).build(step(teacher, tmp_path / "b", store=store))


def test_several_temperatures_system_prompt_stop_and_prefix(teacher: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    lines = [{"prompt": f"Name {i} planets.", **({"prefix": "Well, é"} if i % 2 else {})} for i in range(8)]
    path.write_text("\n".join(map(json.dumps, lines)))
    decoding = Decoding([0.0, 0.6, 1.0], 1.0, 0, 20, 2, 20, None, stop=["a"])
    cache = source(Counted(), decoding, prompts=JsonlPrompts(str(path), "CC0"), system_prompt="Be brief.", filters={})
    manifest = cache.build(step(teacher, tmp_path / "out"))
    records = read_records(tmp_path / "out")
    assert manifest["decoding"]["temperature"] == [0.0, 0.6, 1.0]
    assert sorted((r.temperature, r.sample_index) for r in records if "Name 2 " in str(r.prompt)) == [
        (0.0, 0), (0.6, 0), (0.6, 1), (1.0, 0), (1.0, 1),
    ]  # fmt: skip
    assert len({r.id for r in records}) == len(records)
    assert all(r.prompt[0] == {"role": "system", "content": "Be brief."} for r in records)
    hot = {(str(r.prompt), r.sample_index): r.teacher_text for r in records if r.temperature == 1.0}
    assert any(hot[prompt, 0] != hot.get((prompt, 1), hot[prompt, 0]) for prompt, sample in hot if sample == 0)
    given = [r for r in records if r.prefix_bytes]
    assert 0 < len(given) < len(records)
    for record in given:
        assert record.teacher_text.startswith("Well, é")
        assert record.prefix_bytes == len("Well, é".encode())
        assert record.token_ends[0] >= record.prefix_bytes
    for record in records:
        own = record.teacher_text.encode()[record.prefix_bytes or 0 :].decode()
        assert "a" not in own
        assert record.finish_reason in ("stop", "length")


class Watched(Counted):
    """Remembers what it was asked."""

    def generate(self, requests: Any, decoding: Any) -> Any:
        self.asked = [self.tokenizer.decode(request.prompt_ids) for request in requests]
        yield from super().generate(requests, decoding)


def test_what_a_template_inserts_is_recorded_and_can_be_left_out(teacher: Path, tmp_path: Path) -> None:
    """The smoke template has a default system message, as Qwen's."""
    text, said = "You are a small model.", {}
    for name, system in (("own", None), ("none", ""), ("given", "Be brief.")):
        engine = Watched()
        said[name] = source(engine, system_prompt=system).build(step(teacher, tmp_path / name))["decoding"]
        assert [text in asked for asked in engine.asked] == [name == "own"] * len(engine.asked)
        assert ["system" in asked for asked in engine.asked] == [name != "none"] * len(engine.asked)
    assert [said[name]["inserted_system_prompt"] for name in said] == [text, None, text]
    assert [said[name]["system_prompt"] for name in said] == [None, "", "Be brief."]
    assert asked_without_system_prompt(tmp_path / "none")
    assert not asked_without_system_prompt(tmp_path / "own")


def test_self_consistency_and_difficulty(teacher: Path, tmp_path: Path) -> None:
    consistency = SelfConsistency(3, 0.7, 5, LastNumber())
    engine = Counted()
    manifest = source(engine, consistency=consistency).build(step(teacher, tmp_path / "out"))
    records = read_records(tmp_path / "out")
    measured = [r for r in records if r.self_consistency is not None]
    assert len(measured) == 5
    assert all(r.self_consistency in (0.333333, 0.666667, 1.0) for r in measured)
    assert {r.id for r in measured} == {r.id for r in records if r.difficulty_score is not None}
    for record in measured:
        rank = sum(r.output_entropy < record.output_entropy for r in records) / (len(records) - 1)
        assert record.difficulty_score == pytest.approx(0.5 * rank + 0.5 * (1 - record.self_consistency), abs=1e-6)
    assert manifest["self_consistency"]["samples"] == 3
    again = Counted()
    source(again, consistency=consistency).build(step(teacher, tmp_path / "out"))
    assert again.batches == 0


def test_records_and_manifest(teacher: Path, tmp_path: Path) -> None:
    everything = {"truncated": Truncated(), "language": None}
    chat = {"enable_thinking": False}
    cache = source(Counted(), SAMPLED, batch_requests=24, filters=everything, chat=chat)
    manifest = cache.build(step(teacher, tmp_path))
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
    assert asked_with(tmp_path) == chat
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
    cache = source(Counted(), prompts=JsonlPrompts(str(path), "CC0"), heldout=1, validation=1, filters={})
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
    cache = source(Counted(), short, count=6, filters={"truncated": Truncated()})
    with pytest.raises(DanteError, match="dropped"):
        cache.build(step(teacher, tmp_path))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_request_may_have_a_limit_of_its_own(teacher: Path, temperature: float) -> None:
    """What is cut off is the beginning of the whole answer; its neighbours are as they would be without it."""
    decoding = Decoding(temperature, 1.0, 0, 12, 1, 20, None)
    with TransformersEngine("float32", 4, "cpu").open(str(teacher / "model"), None, {}, teacher / "log") as engine:
        ids = engine.tokenizer("Ask me.", add_special_tokens=False)["input_ids"]
        free = [Request(ids, seed) for seed in range(4)]
        whole = dict(engine.generate(free, decoding))
        capped = dict(
            engine.generate([replace(free[0], most_tokens=3), *free[1:3], replace(free[3], most_tokens=99)], decoding)
        )
    assert len(capped[0].token_logprobs) == min(3, len(whole[0].token_logprobs))
    assert whole[0].text.startswith(capped[0].text.rstrip("\ufffd"))
    if len(whole[0].token_logprobs) > 3:
        assert capped[0].finish_reason == "length"
    assert [capped[i] for i in (1, 2, 3)] == [whole[i] for i in (1, 2, 3)]
