"""The cache on disk: round trip, broken caches, manifest, splits, the shipped cache."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dante.cache import CacheWriter, Record, load_manifest, read_records, verify
from dante.cache.filters import Truncated
from dante.cache.generate.difficulty import with_difficulty
from dante.cache.records.record import stable_hash, to_line
from dante.cache.shipped import POCKET, ShippedCache
from dante.cache.sparse import SparseLogits
from dante.cache.split import split_by_prompt
from dante.errors import DanteError
from dante.run.step import Step

FIVE: dict[str, Any] = {
    "prompt": "Say hi.",
    "teacher_text": "Hi!",
    "output_entropy": 0.5,
    "self_consistency": None,
    "difficulty_score": None,
}


def full(index: int, **changes: Any) -> Record:
    text = changes.pop("teacher_text", f"Risposta {index}: così è 👍🏽")
    raw = text.encode("utf-8")
    record = Record(
        id=f"id{index}",
        prompt=[{"role": "user", "content": f"Domanda {index}"}] if index % 2 else f"Question {index}",
        teacher_text=text,
        output_entropy=0.25 * index,
        output_entropy_upper=0.25 * index + 0.1,
        finish_reason="stop",
        temperature=0.0,
        domain="general",
        language="it",
        family="test",
        token_logprobs=[-0.5, -0.125],
        token_ends=[8, len(raw)],
    )
    return dataclasses.replace(record, **changes)


def step(out: Path, seed: int = 0, **inputs: Path) -> Step:
    return Step("cache", "cache", {}, {}, dict(inputs), out, "", seed)


def write_lines(path: Path, *lines: Any) -> Path:
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
    return path


# --- round trip ------------------------------------------------------------------------------------------------------


def test_round_trip_over_several_shards(tmp_path: Path) -> None:
    records = [full(i) for i in range(7)]
    manifest = CacheWriter(tmp_path, records_per_shard=3).add(records).seal(teacher={"name": "t"})
    assert read_records(tmp_path) == records
    assert [shard["records"] for shard in manifest["shards"]] == [3, 3, 1]
    assert load_manifest(tmp_path) == verify(tmp_path) == manifest
    assert manifest["counts"]["records"] == 7
    assert manifest["counts"]["teacher_tokens"] == 14
    assert manifest["teacher"] == {"name": "t"}


def test_equal_records_make_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        CacheWriter(tmp_path / name).add(full(i) for i in range(5)).seal()
    files = [(tmp_path / name / "records-00000.jsonl.zst").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


def test_five_fields_are_enough_and_the_id_is_stable(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "mine.jsonl", FIVE, "", FIVE | {"prompt": "Other"})
    first, second = read_records(path)
    assert first.id == read_records(path)[0].id != second.id
    assert (first.prompt, first.teacher_text, first.output_entropy) == ("Say hi.", "Hi!", 0.5)
    assert read_records(path, split="train") == [first, second]


def test_writing_again_replaces_what_was_left(tmp_path: Path) -> None:
    CacheWriter(tmp_path, records_per_shard=1).add(full(i) for i in range(4)).seal()
    CacheWriter(tmp_path).add([full(9)]).seal()
    verify(tmp_path)
    assert [r.id for r in read_records(tmp_path)] == ["id9"]


VALIDATION = """
import json, time
from dante.cache.records.record import parse_record
fields = {"teacher_text": "word " * 60, "output_entropy": 0.5, "self_consistency": 1.0, "difficulty_score": 0.5}
lines = [json.dumps(fields | {"prompt": f"Prompt {i}"}) for i in range(20_000)]
start = time.process_time()
for line in lines:
    parse_record(json.loads(line))
print(len(lines) / (time.process_time() - start))
"""


def test_validation_is_fast() -> None:
    """In a process without the tests' checker of shapes and types, as users have it."""
    done = subprocess.run([sys.executable, "-c", VALIDATION], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 20_000


# --- broken caches ---------------------------------------------------------------------------------------------------

BROKEN = {
    "not JSON": ('{"prompt": "x", "teach', "line"),
    "not an object": ("[1, 2]", "line"),
    "missing field": ({k: v for k, v in FIVE.items() if k != "output_entropy"}, "output_entropy"),
    "missing card field": ({k: v for k, v in FIVE.items() if k != "difficulty_score"}, "difficulty_score"),
    "NaN": (json.dumps(FIVE | {"output_entropy": float("nan")}), "output_entropy"),
    "infinite": (json.dumps(FIVE | {"output_entropy": float("inf")}), "output_entropy"),
    "negative": (FIVE | {"output_entropy": -0.1}, "output_entropy"),
    "entropy as text": (FIVE | {"output_entropy": "0.5"}, "output_entropy"),
    "entropy as bool": (FIVE | {"output_entropy": True}, "output_entropy"),
    "empty text": (FIVE | {"teacher_text": "  "}, "teacher_text"),
    "text is a list": (FIVE | {"teacher_text": ["Hi"]}, "teacher_text"),
    "prompt is null": (FIVE | {"prompt": None}, "prompt"),
    "unknown role": (FIVE | {"prompt": [{"role": "robot", "content": "x"}]}, "prompt"),
    "ends with the assistant": (FIVE | {"prompt": [{"role": "assistant", "content": "x"}]}, "prompt"),
    "share above one": (FIVE | {"self_consistency": 1.5}, "self_consistency"),
    "upper below lower": (FIVE | {"output_entropy_upper": 0.1}, "output_entropy_upper"),
    "wrong split": (FIVE | {"split": "test"}, "split"),
    "positive log-probability": (FIVE | {"token_logprobs": [0.5], "token_ends": [3]}, "token_logprobs"),
    "offsets beyond the text": (FIVE | {"token_logprobs": [-0.5], "token_ends": [4]}, "token_ends"),
    "lengths differ": (FIVE | {"token_logprobs": [-0.5, -1.0], "token_ends": [3]}, "token_ends"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_line_names_file_line_and_field(tmp_path: Path, name: str) -> None:
    line, field = BROKEN[name]
    good = FIVE | {"prompt": "fine"}
    path = write_lines(tmp_path / "bad.jsonl", good, line, FIVE | {"prompt": "also fine"})
    with pytest.raises(DanteError) as caught:
        read_records(path)
    message = str(caught.value)
    assert "bad.jsonl, line 2" in message
    assert field in message
    assert "Allowed" in message
    assert len(read_records(path, policy="skip")) == 2


def test_duplicate_id(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "twice.jsonl", FIVE, FIVE)
    with pytest.raises(DanteError, match=r"line 2.*"):
        read_records(path)
    assert len(read_records(path, policy="skip")) == 1


def test_no_training_records(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "held.jsonl", FIVE | {"split": "heldout"})
    with pytest.raises(DanteError, match="no train records"):
        read_records(path, split="train")
    with pytest.raises(DanteError, match="no training records"):
        CacheWriter(tmp_path / "out").add([full(1, split="heldout")]).seal()
    with pytest.raises(DanteError, match="no cache at"):
        read_records(tmp_path / "nowhere")


def test_a_changed_shard_is_noticed(tmp_path: Path) -> None:
    CacheWriter(tmp_path).add(full(i) for i in range(50)).seal()
    shard = tmp_path / "records-00000.jsonl.zst"
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(bytes(raw))
    with pytest.raises(DanteError, match="SHA-256"):
        verify(tmp_path)
    shard.unlink()
    with pytest.raises(DanteError, match="disagree"):
        verify(tmp_path)


def test_a_cut_off_shard_is_noticed(tmp_path: Path) -> None:
    CacheWriter(tmp_path).add(full(i) for i in range(50)).seal()
    shard = tmp_path / "records-00000.jsonl.zst"
    shard.write_bytes(b"\x00\x01" + shard.read_bytes()[2:])
    with pytest.raises(DanteError, match="damaged"):
        read_records(tmp_path)


# --- split, difficulty -----------------------------------------------------------------------------------------------


def test_samples_of_a_prompt_stay_together() -> None:
    records = [full(i, prompt=f"p{i // 4}") for i in range(80)]
    split = split_by_prompt(records, heldout=5, validation=3, seed=3)
    sides: dict[str, set] = {}
    for record in split:
        sides.setdefault(str(record.prompt), set()).add(record.split)
    assert all(len(side) == 1 for side in sides.values())
    assert sum(side == {"heldout"} for side in sides.values()) == 5
    assert sum(side == {"validation"} for side in sides.values()) == 3
    assert [r.id for r in split] == [r.id for r in records]
    again = {r.id: r.split for r in split_by_prompt(records[::-1], heldout=5, validation=3, seed=3)}
    assert again == {r.id: r.split for r in split}
    assert {r.id for r in split_by_prompt(records, 5, 3, 4) if r.split == "heldout"} != {
        r.id for r in split if r.split == "heldout"
    }
    with pytest.raises(DanteError, match="held out"):
        split_by_prompt(records, heldout=18, validation=2, seed=3)


def test_a_given_split_is_kept_and_only_the_missing_side_is_drawn() -> None:
    given = [full(i, prompt=f"p{i}", split="heldout" if i < 6 else "train") for i in range(20)]
    split = split_by_prompt(given, heldout=2, validation=4, seed=0)
    assert [r.split for r in split[:6]] == ["heldout"] * 6
    assert sorted({str(r.split) for r in split[6:]}) == ["train", "validation"]
    assert sum(r.split == "validation" for r in split) == 4
    assert split_by_prompt(split, heldout=2, validation=9, seed=1) == split


def test_difficulty_ranks_over_the_whole_cache() -> None:
    records = [full(i, output_entropy=e, self_consistency=0.5) for i, e in enumerate([3.0, 1.0, 2.0])]
    assert [r.difficulty_score for r in with_difficulty(records)] == [0.75, 0.25, 0.5]
    assert [r.difficulty_score for r in with_difficulty([full(1), full(2)])] == [None, None]


# --- shipped caches --------------------------------------------------------------------------------------------------


def test_own_jsonl_is_filtered_and_split(tmp_path: Path) -> None:
    lines = [FIVE | {"prompt": f"p{i}", "finish_reason": "length" if i < 3 else "stop"} for i in range(20)]
    path = write_lines(tmp_path / "mine.jsonl", *lines, "not json")
    source = ShippedCache(str(path), heldout=4, validation=2, filters={"truncated": Truncated()}, policy="skip")
    manifest = source.build(step(tmp_path / "out"))
    assert manifest["counts"]["records"] == 17
    assert manifest["counts"]["heldout"] == 4
    filters = {f["name"]: f["dropped"] for f in manifest["filters"]}
    assert filters == {"bad_lines": 1, "truncated": 3}
    assert manifest["counts"]["validation"] == 2
    assert len(read_records(tmp_path / "out", split="train")) == 11


def test_cache_of_another_teacher_is_refused(tmp_path: Path) -> None:
    CacheWriter(tmp_path / "cache").add([full(1)]).seal(teacher={"name": "one", "sha256": "a" * 64})
    (tmp_path / "teacher").mkdir()
    fields = {"name": "two", "model": "m", "local": False, "revision": None, "licence": "x", "chat_template": True}
    (tmp_path / "teacher" / "teacher.json").write_text(json.dumps(fields | {"sha256": "b" * 64}))
    with pytest.raises(DanteError, match="written by one"):
        ShippedCache(str(tmp_path / "cache"), 0, 0, {}, "error").build(
            step(tmp_path / "out", teacher=tmp_path / "teacher")
        )


def test_a_missing_path_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DanteError, match="cache.source.path"):
        ShippedCache(str(tmp_path / "nothing"), 0, 0, {}, "error").build(step(tmp_path / "out"))


def test_the_pocket_cache(tmp_path: Path) -> None:
    manifest = verify(POCKET)
    records = read_records(POCKET)
    assert len(records) == manifest["counts"]["records"] >= 2000
    heldout = [r for r in records if r.split == "heldout"]
    assert len(heldout) == manifest["counts"]["heldout"] >= 200
    assert not {str(r.prompt) for r in heldout} & {str(r.prompt) for r in records if r.split == "train"}
    assert 0.09 < sum(r.language == "it" for r in records) / len(records) < 0.13
    assert {r.finish_reason for r in records} == {"stop"}
    assert all(r.output_entropy_upper is not None and r.output_entropy <= r.output_entropy_upper for r in records)
    assert sum(shard["bytes"] for shard in manifest["shards"]) < 8 * 2**20
    assert manifest["engine"]["name"] == "vllm"
    assert manifest["licences"]["teacher"] == "Apache-2.0"
    assert len({stable_hash(r.prompt) for r in records}) == len(records)
    measured = [r for r in records if r.self_consistency is not None]
    assert len(measured) == manifest["self_consistency"]["prompts"] == 300
    assert {r.id for r in measured} == {r.id for r in records if r.difficulty_score is not None}
    for kind in ("topk_tail", "random_sampling"):
        logits = SparseLogits(POCKET, kind)
        assert 0 < len(logits) <= 100
        assert all(len(logits.for_record(r).ids) > 0 for r in records if r.id in logits)
    built = ShippedCache(None, 240, 200, {"truncated": Truncated()}, "error").build(step(tmp_path))
    assert read_records(tmp_path) == records  # its splits are its own
    assert built["counts"] == manifest["counts"]


def test_lines_keep_the_five_fields_and_leave_out_nulls() -> None:
    data = json.loads(to_line(Record("a", "p", "t", 0.0)))
    assert data == {
        "id": "a",
        "prompt": "p",
        "teacher_text": "t",
        "output_entropy": 0.0,
        "self_consistency": None,
        "difficulty_score": None,
        "sample_index": 0,
    }
