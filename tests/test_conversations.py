"""Prompts in all their forms: read as what they are, compared as what they ask, never on two sides of a split."""

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from dante.cache import CacheWriter, Record, read_records
from dante.cache.filters import ExactDuplicates
from dante.cache.records.conversation import same_prompt
from dante.cache.records.fields import FieldError
from dante.cache.records.manifest import Counts
from dante.cache.records.record import parse_record, prompt_hash
from dante.cache.shipped import POCKET, ShippedCache
from dante.cache.split import AtMost, prompts_to_draw_from, split_by_prompt
from dante.cache.tools.verify import problems
from dante.errors import DanteError
from tests.test_cache import FIVE, step, write_lines

USER = {"role": "user", "content": "Perché il cielo è blu?"}
FORMS: dict[str, Any] = {
    "text": USER["content"],
    "one message": [USER],
    "white space at the ends": f" {USER['content']}\r\n",
    "white space in the message": [{**USER, "content": USER["content"] + "\n"}],
    "decomposed accents": "Perche\u0301 il cielo e\u0300 blu?",
    "JSON": json.dumps([USER]),
    "JSON of one object": json.dumps(USER),
    "as Python prints it": str([USER]),
    "ShareGPT in JSON": json.dumps([{"from": "human", "value": USER["content"]}]),
}


def given(**fields: Any) -> dict[str, Any]:
    return FIVE | fields


def record_of(prompt: Any, number: int = 0, **more: Any) -> Record:
    return parse_record(given(prompt=prompt, teacher_text=f"Answer {number}.", **more))


# --- forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_prompt_is_the_same_prompt(form: str) -> None:
    prompt = record_of(FORMS[form]).prompt
    assert prompt_hash(prompt) == prompt_hash(USER["content"])
    assert "{" not in str(same_prompt(prompt))


def test_what_asks_something_else_is_another_prompt() -> None:
    system = {"role": "system", "content": "Be brief."}
    others = [[system, USER], USER["content"].lower(), [USER, {"role": "assistant", "content": "So."}, USER]]
    assert len({prompt_hash(prompt) for prompt in (USER["content"], *others)}) == 4


@pytest.mark.parametrize("column", ["messages", "conversations"])
@pytest.mark.parametrize("how", ["list", "JSON", "ShareGPT"])
def test_a_column_with_the_whole_conversation_gives_prompt_and_answer(column: str, how: str) -> None:
    system, answer = {"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Scattering."}
    turns: Any = [system, USER, answer]
    if how == "ShareGPT":
        names = {"system": "system", "user": "human", "assistant": "gpt"}
        turns = [{"from": names[turn["role"]], "value": turn["content"]} for turn in turns]
    line = {k: v for k, v in FIVE.items() if k not in ("prompt", "teacher_text")}
    record = parse_record(line | {column: json.dumps(turns) if how == "JSON" else turns})
    assert record.prompt == [system, USER]
    assert record.teacher_text == "Scattering."


@pytest.mark.parametrize(
    "text",
    ["[1, 2, 3] is a list. Sort it.", '{"a": 1}', "[note] hi", '[{"role": "user", "content": "x"}] What is this?'],
)
def test_text_with_brackets_stays_text(text: str) -> None:
    assert record_of(text).prompt == text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (given(prompt="[{'content': 'x', 'role': 'user'}\n {'content': 'y', 'role': 'user'}"), "cannot be read as"),
        (given(prompt='[{"role": "user", "content": "x"}'), "cannot be read as"),
        (given(prompt=json.dumps([{"role": "tool", "content": "x"}])), "tool"),
        (given(prompt=json.dumps([{"from": "gpt", "value": "x"}])), "ends with the role"),
        (given(prompt=[{"from": [], "value": "x"}]), "holds"),
        (given(prompt=[{"role": "system", "content": "x"}]), "ends with the role 'system'"),
        (given(prompt=[{"role": "user", "content": " "}]), "empty message"),
        (given(prompt=[]), "is []"),
        (given(prompt="[]" + "[" * 5), ""),
        (given(teacher_text=json.dumps([{"role": "assistant", "content": "x"}])), "holds chat messages"),
        (given(prompt='[{"role": "user", "content": "\\ud83d"}]'), "surrogate"),
    ],
)
def test_what_cannot_be_read_is_named(line: dict[str, Any], said: str) -> None:
    if not said:
        assert parse_record(line).prompt == line["prompt"]
        return
    with pytest.raises(FieldError) as caught:
        parse_record(line)
    assert said in str(caught.value)
    assert caught.value.allowed


# --- numbers and lines -----------------------------------------------------------------------------------------------

HUGE = 10**400


@pytest.mark.parametrize(
    "fields",
    [
        {"output_entropy": HUGE},
        {"output_entropy": 1e300},
        {"output_entropy_upper": HUGE},
        {"self_consistency": HUGE},
        {"difficulty_score": -HUGE},
        {"temperature": HUGE},
        {"temperature": float("inf")},
        {"temperature": True},
        {"sample_index": HUGE},
        {"prefix_bytes": HUGE},
        {"token_logprobs": [-HUGE], "token_ends": [3]},
        {"token_logprobs": [float("-inf")], "token_ends": [3]},
        {"token_logprobs": [True], "token_ends": [3]},
        {"token_logprobs": [-0.5], "token_ends": [HUGE]},
        {"token_logprobs": "[-0.5]", "token_ends": [3]},
    ],
    ids=lambda fields: " ".join(fields),
)
def test_numbers_that_no_float_holds_are_named(tmp_path: Path, fields: dict[str, Any]) -> None:
    path = write_lines(tmp_path / "bad.jsonl", given(prompt="fine"), given(**fields))
    with pytest.raises(DanteError) as caught:
        CacheWriter(tmp_path / "out").add(read_records(path))
    assert "bad.jsonl, line 2" in caught.value.where
    assert any(repr(name) in caught.value.what for name in fields)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "a", "prompt": "b"}', "stands twice"),
        ('{"prompt": "Cut \\ud83d"}', "surrogate"),
        ("[" * 100_000, "nested too deeply"),
        ('{"output_entropy": ' + "1" * 5000 + "}", "is not JSON"),
        ("[", "jq -c '.[]'"),
        ('[{"prompt": "a"}]', "jq -c '.[]'"),
    ],
    ids=["twice", "half", "deep", "digits", "array", "array in a line"],
)
def test_lines_that_are_none_say_what_to_do(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(DanteError) as caught:
        read_records(write_lines(tmp_path / "bad.jsonl", given(prompt="fine"), line))
    assert said in str(caught.value)
    assert "line 2" in caught.value.where


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "gunzip"),
        ("a.jsonl", b"PAR1\x00", "Parquet"),
        ("a.jsonl", "{}".encode("utf-16"), "iconv"),
        ("a.jsonl", zstandard.compress(b"{}"), "a.jsonl.zst"),
        ("a.jsonl.zst", b"{}", "rename it to"),
        ("a.jsonl", b"", "empty"),
        ("a.jsonl", b"\n\n", "empty"),
    ],
)
def test_files_of_another_kind_are_recognised(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DanteError) as caught:
        ShippedCache(str(tmp_path / name), 1, 1, {}, "error").build(step(tmp_path / "out"))
    assert said in str(caught.value)
    assert caught.value.fix


def test_marks_of_windows_change_nothing(tmp_path: Path) -> None:
    lines = [json.dumps(given(prompt=f"p{i}")) for i in range(3)]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert [r.prompt for r in read_records(tmp_path / "a.jsonl")] == ["p0", "p1", "p2"]


# --- splits ----------------------------------------------------------------------------------------------------------


def in_all_forms(prompts: int) -> list[Record]:
    forms = [lambda text: text, lambda text: [{"role": "user", "content": text}], lambda text: text + " "]
    return [record_of(form(f"Name colour {i}."), k) for i in range(prompts) for k, form in enumerate(forms)]


def test_all_forms_of_a_prompt_share_a_side() -> None:
    split = split_by_prompt(in_all_forms(40), heldout=6, validation=5, seed=0)
    sides: dict[str, set[Any]] = {}
    for record in split:
        sides.setdefault(prompt_hash(record.prompt), set()).add(record.split)
    assert all(len(found) == 1 for found in sides.values())
    assert sum(found == {"heldout"} for found in sides.values()) == 6
    assert sum(found == {"validation"} for found in sides.values()) == 5


def test_forms_of_a_prompt_are_counted_and_dropped_as_one() -> None:
    counts = Counts()
    for record in in_all_forms(5):
        counts.add(record)
    assert counts.as_dict()["prompts"] == 5
    same = [record_of(FORMS[form]) for form in ("text", "one message", "white space at the ends")]
    kept, dropped = ExactDuplicates().split(same)
    assert (len(kept), len(dropped)) == (1, 2)


def test_splits_that_tear_a_prompt_apart_are_told(tmp_path: Path) -> None:
    torn = [
        record_of("Why?", 1, id="a", split="heldout"),
        record_of([{**USER, "content": "Why? "}], 2, id="b", split="train"),
    ]
    rest = [record_of(f"p{i}", i, split="train") for i in range(5)]
    with pytest.raises(DanteError, match=r"a \(heldout\) and b \(train\)") as caught:
        split_by_prompt([*torn, *rest], 1, 1, 0)
    assert "leave the field out" in caught.value.fix
    with pytest.raises(DanteError, match=r"a \(heldout\) and b \(train\)"):
        CacheWriter(tmp_path / "sealed").add([*torn, *rest]).seal()
    write_lines(tmp_path / "records-00000.jsonl", *(FIVE | vars(r) for r in torn))
    assert any("different sides" in problem.what for problem in problems(tmp_path, Counts()))


def test_a_record_without_a_split_follows_its_prompt() -> None:
    records = [record_of("Why?", 1, split="heldout"), record_of("Why? ", 2)]
    records += [record_of(f"p{i}", i) for i in range(6)]
    assert [r.split for r in split_by_prompt(records, 1, 2, 0)[:2]] == ["heldout", "heldout"]


@pytest.mark.parametrize(("prompts", "heldout", "validation"), [(3, 1, 1), (10, 2, 1), (120, 24, 12), (3000, 200, 100)])
def test_a_share_fits_a_cache_of_any_size(prompts: int, heldout: int, validation: int) -> None:
    records = [record_of(f"p{i}") for i in range(prompts)]
    split = [r.split for r in split_by_prompt(records, AtMost(200, 0.2), AtMost(100, 0.1), 0)]
    assert (split.count("heldout"), split.count("validation")) == (heldout, validation)


def test_a_typed_number_stands_for_itself_and_the_fix_of_its_error_works() -> None:
    records = [record_of(f"p{i}") for i in range(12)]
    with pytest.raises(DanteError) as caught:
        split_by_prompt(records, 200, 100, 0)
    typed = dict(part.split("=") for part in caught.value.fix.split(",")[0].split())
    split = split_by_prompt(records, int(typed["cache.source.heldout"]), int(typed["cache.source.validation"]), 0)
    assert {r.split for r in split} == {"train", "heldout", "validation"}


@pytest.mark.parametrize(("prompts", "share"), [(0, 0.1), (5, 0.0), (5, 0.6)])
def test_shares_that_leave_nothing_are_refused(prompts: int, share: float) -> None:
    with pytest.raises(DanteError, match="share"):
        AtMost(prompts, share)


def test_the_shipped_cache_keeps_its_split_and_would_be_split_alike() -> None:
    records = read_records(POCKET)
    sides = [r.split for r in records]
    assert (len({prompt_hash(r.prompt) for r in records if r.split == "heldout"})) == 240
    assert (len({prompt_hash(r.prompt) for r in records if r.split == "validation"})) == 200
    assert [r.split for r in split_by_prompt(records, 240, 200, 0)] == sides
    bare = [dataclasses.replace(r, split=None) for r in records]
    assert len(prompts_to_draw_from(bare)) == len({str(r.prompt) for r in records})
    assert [r.split for r in split_by_prompt(bare, AtMost(240, 0.2), AtMost(200, 0.1), 42)] == sides
