"""`python -m dante.cache COMMAND`: what it finds, what it refuses, what it writes."""

import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from dante.cache import CacheWriter, Record, load_manifest, read_records, verify
from dante.cache.__main__ import COMMANDS, main
from dante.cache.records.frames import RECORDS_PER_FRAME
from dante.cache.records.index import IndexedCache
from dante.cache.records.index_file import BINDING
from dante.cache.records.manifest import write_manifest
from dante.cache.records.record import to_line
from dante.cache.shipped import POCKET
from dante.cache.tools.show import in_terminal, select, shown
from dante.cache.tools.surprisal import pieces

TEACHER = {"name": "tiny", "sha256": "a" * 64}
ENGINE = {"name": "vllm", "version": "1.0"}
DECODING = {"temperature": 0.0, "top_p": 1.0}


def record(index: int, **changes: Any) -> Record:
    text = changes.pop("teacher_text", f"Risposta {index}: così 👍🏽")
    size = len(text.encode())
    fields = {
        "domain": ["code", "maths"][index % 2],
        "finish_reason": "stop",
        "token_logprobs": [-0.25, -2.5],
        "token_ends": [min(4, size), size],
        "output_entropy_upper": 0.1 * index + 0.2,
    }
    return replace(Record(f"id{index}", f"Question {index}", text, 0.1 * index, **fields), **changes)


def cache(directory: Path, records: list[Record], **provenance: Any) -> Path:
    facts = {"teacher": TEACHER, "engine": ENGINE, "decoding": DECODING, **provenance}
    CacheWriter(directory, records_per_shard=RECORDS_PER_FRAME).add(records).seal(**facts)
    return directory


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str]:
    """Exit code, and everything that was printed as one line of single spaces."""
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, " ".join((printed.out + printed.err).split())


# --- the program ------------------------------------------------------------------------------------------------------


def test_without_a_command_it_verifies_and_prints_statistics(tmp_path, capsys):
    code, printed = run(capsys)
    assert code == 0
    assert "teacher SmolLM2-135M-Instruct records 2372, train 1932 (81.5%), heldout 240" in printed
    assert not list(POCKET.glob("index.*")), "looking at a cache leaves nothing in it"
    code, printed = run(capsys, cache(tmp_path, [record(i) for i in range(4)]))
    assert code == 0
    assert "domains code 2 (50.0%), maths 2 (50.0%)" in printed
    (tmp_path / "records-00000.jsonl.zst").unlink()
    code, printed = run(capsys, tmp_path)
    assert code == 1
    assert "disagree" in printed


def test_as_a_program_and_its_help():
    done = subprocess.run([sys.executable, "-m", "dante.cache", "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in COMMANDS)
    done = subprocess.run([sys.executable, "-m", "dante.cache", "verify"], capture_output=True, text=True, check=True)
    assert "2,372 records, all as the manifest says" in done.stdout


# --- verify -----------------------------------------------------------------------------------------------------------


def damaged(tmp_path: Path) -> Path:
    """Four shards: one flipped in the middle, one cut, one deleted, one sound; and one that nobody listed."""
    directory = cache(tmp_path / "c", [record(i) for i in range(4 * RECORDS_PER_FRAME)])
    shards = sorted(directory.glob("records-*"))
    raw = bytearray(shards[0].read_bytes())
    raw[len(raw) // 2] ^= 1
    shards[0].write_bytes(bytes(raw))
    shards[1].write_bytes(shards[1].read_bytes()[:-100])
    shards[2].unlink()
    (directory / "records-99999.jsonl").write_text(to_line(record(5000)) + "\n")
    return directory


def test_verify_names_every_problem(tmp_path, capsys):
    code, printed = run(capsys, "verify", damaged(tmp_path))
    assert code == 1
    assert re.search(r"records-00000.jsonl.zst: SHA-256 is \w+, the manifest says \w+", printed)
    assert re.search(r"records-00000.jsonl.zst: the shard is damaged", printed)
    assert "records-00001.jsonl.zst" in printed
    assert "(cut by 100)" in printed
    assert "records-00001.jsonl.zst: the shard is damaged (it ends inside a frame)" in printed
    assert "records-00002.jsonl.zst: the shard is missing" in printed
    assert "records-00003" not in printed
    assert "records-99999.jsonl: the shard is not in the manifest" in printed
    assert "Fix: rebuild the cache" in printed


@pytest.mark.parametrize("shard", range(3))
@pytest.mark.parametrize("place", [0.01, 0.3, 0.99])
def test_verify_finds_any_flipped_bit(tmp_path, capsys, shard, place):
    directory = cache(tmp_path / "c", [record(i) for i in range(3 * RECORDS_PER_FRAME)])
    assert run(capsys, "verify", directory)[0] == 0
    path = sorted(directory.glob("records-*"))[shard]
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * place)] ^= 0x10
    path.write_bytes(bytes(raw))
    code, printed = run(capsys, "verify", directory)
    assert code == 1
    assert f"{path.name}: SHA-256" in printed
    assert set(re.findall(r"records-\d+", printed)) == {path.name.split(".")[0]}


def test_verify_reads_every_line(tmp_path, capsys):
    """Hashes and counts agree, because whoever spoiled the lines sealed them too."""
    lines = [to_line(record(i)) for i in range(6)]
    lines[1] = lines[1].replace('"output_entropy": 0.1', '"output_entropy": -1')
    lines[3] = lines[0]
    lines[4] = "{"
    shard = tmp_path / "records-00000.jsonl"
    shard.write_text("\n".join(lines) + "\n")
    from dante.system.files import sha256

    facts = {"file": shard.name, "sha256": sha256(shard), "records": 6, "bytes": shard.stat().st_size}
    write_manifest(tmp_path, {"schema_version": 1, "counts": {"records": 6}, "shards": [facts]})
    code, printed = run(capsys, "verify", tmp_path)
    assert code == 1
    assert "records-00000.jsonl, line 2: field 'output_entropy'" in printed
    assert "records-00000.jsonl, line 4: field 'id': 'id0' occurs twice" in printed
    assert "records-00000.jsonl, line 5: field '(the line)'" in printed
    assert "3 problems" in printed


def test_verify_counts_again(tmp_path, capsys):
    directory = cache(tmp_path / "c", [record(i) for i in range(4)])
    manifest = load_manifest(directory)
    manifest["counts"] |= {"heldout": 2, "domains": {"code": 4}}
    manifest["shards"][0]["records"] = 3
    write_manifest(directory, manifest)
    code, printed = run(capsys, "verify", directory)
    assert code == 1
    assert "records-00000.jsonl.zst: 4 lines, the manifest says 3" in printed
    manifest["shards"][0]["records"] = 4
    write_manifest(directory, manifest)
    code, printed = run(capsys, "verify", directory)
    assert code == 1
    assert "counts.heldout is 2, the shards hold 0" in printed
    assert "counts.domains is {'code': 4}" in printed


def test_verify_without_a_manifest_or_a_cache(tmp_path, capsys):
    (tmp_path / "records-0.jsonl").write_text(to_line(record(1)) + "\n")
    code, printed = run(capsys, "verify", tmp_path)
    assert code == 1
    assert "manifest.json: no manifest.json" in printed
    assert "import OUT FILE" in printed
    code, printed = run(capsys, "verify", tmp_path / "nowhere")
    assert code == 1
    assert "no cache at" in printed


def test_a_stale_index_is_no_problem_of_the_cache(tmp_path, capsys):
    directory = cache(tmp_path / "c", [record(i) for i in range(4)])
    assert "index: whole" in run(capsys, "verify", directory)[1]
    (directory / BINDING).write_text("{}")
    code, printed = run(capsys, "verify", directory)
    assert code == 0
    assert "it is not used" in printed


# --- stats, show ------------------------------------------------------------------------------------------------------


def test_stats_prints_groups_and_draws(tmp_path, capsys):
    directory = cache(tmp_path / "c", [record(i) for i in range(40)])
    code, printed = run(capsys, "stats", directory, "--png", tmp_path / "new" / "s.png")
    assert code == 0
    assert re.search(r"code 20 50\.0% 1\.900", printed), "mean entropy of 0.0, 0.2, …, 3.8"
    assert re.search(r"maths 20 50\.0% 2\.000", printed)
    image = Image.open(tmp_path / "new" / "s.png")
    assert image.size[0] > 1200
    assert len(set(image.convert("RGB").get_flattened_data())) > 20, "not an empty sheet"


@pytest.mark.parametrize("records", [1, 3])
def test_stats_of_the_cards_five_fields(tmp_path, capsys, records):
    lines = [to_line(Record("", f"p{i}", "t", 0.0)) for i in range(records)]
    (tmp_path / "mine.jsonl").write_text("".join(re.sub('"id": "", ', "", line) + "\n" for line in lines))
    assert run(capsys, "stats", tmp_path / "mine.jsonl", "--png", tmp_path / "s.png")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.jsonl", "s.png"]


@given(data=st.data(), text=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_pieces_are_the_answer_and_their_surprisals_add_up(data, text):
    """Tokens end at any byte, inside characters too, and some add nothing."""
    size = len(text.encode())
    ends = [*sorted(data.draw(st.lists(st.integers(0, size), max_size=8))), size]
    logprobs = data.draw(st.lists(st.floats(-30, 0), min_size=len(ends), max_size=len(ends)))
    found = list(pieces(Record("i", "p", text, 0.0, token_ends=ends, token_logprobs=logprobs)))
    assert "".join(piece.text for piece in found) == text
    assert sum(piece.tokens for piece in found) == len(ends)
    assert math.isclose(sum(piece.surprisal or 0 for piece in found), -sum(logprobs), abs_tol=1e-9)


def test_a_token_has_its_own_surprisal():
    """Offsets count bytes: `è` has two, the thumb four (the token ends inside it), the rest is one each."""
    item = Record("i", "p", "è👍a", 0.0, token_ends=[2, 4, 6, 7], token_logprobs=[-0.01, -1.0, -0.5, -9.0])
    assert [(p.text, p.surprisal, p.tokens, p.step) for p in pieces(item)] == [
        ("è", 0.01, 1, 0),
        ("👍", 1.5, 2, 3),
        ("a", 9.0, 1, 6),
    ]
    bare = list(pieces(replace(item, token_logprobs=None)))
    assert [(p.text, p.surprisal, p.step) for p in bare] == [("è👍a", None, -1)]


def test_show_spreads_over_the_entropies(tmp_path, capsys):
    directory = cache(tmp_path / "c", [record(i) for i in np.random.default_rng(0).permutation(50).tolist()])
    index = IndexedCache(directory)
    assert [r.id for r in select(index, 3, [], None)] == ["id0", "id24", "id49"]
    assert [r.id for r in select(index, 2, [], "maths")] == ["id1", "id49"]
    assert len(select(index, 500, [], None)) == 50
    assert [r.id for r in select(index, 9, ["id7", "id3"], None)] == ["id7", "id3"]
    code, printed = run(capsys, "show", directory, "--id", "id7")
    assert code == 0
    assert "H 0.700 to 0.900 nats/token" in printed
    assert "w(H) 0.8" in printed
    assert "self-consistency not measured" in printed
    assert "finish stop" in printed
    assert "Risposta 7: così 👍🏽" in printed
    for words, expected in (
        (("--domain", "music"), "Allowed: code, maths"),
        (("--id", "nobody"), "no record 'nobody'"),
        (("--count", "0"), "from 1"),
    ):
        code, printed = run(capsys, "show", directory, *words)
        assert code == 1
        assert expected in printed


def test_the_terminal_gets_colours_and_no_control_characters():
    hostile = record(1, teacher_text="a\x1b[2Jb\x07\x9bc\nd", token_logprobs=[-0.01, -7.0], token_ends=[1, 12])
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="truecolor", width=80)
    console.print(in_terminal(shown(hostile)))
    written = stream.getvalue()
    assert "48;2;201;42;42" in written, "the strongest colour"
    assert "\x1b[2J" not in written
    assert "\x07" not in written
    assert "\x9b" not in written
    plain = re.sub(r"\x1b\[[\d;]*m", "", written)
    assert "a\ufffd[2Jb\ufffd\ufffdc\nd" in plain


class Page(HTMLParser):
    """Tags, and text with the class and title of what holds it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str | None] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = dict(attrs)

    def handle_endtag(self, tag: str) -> None:
        self.inside = {}

    def handle_data(self, data: str) -> None:
        self.texts.append((data, self.inside))


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>&amp; \"'"


def test_the_page_escapes_what_models_write_and_fetches_nothing(tmp_path, capsys):
    size = len(EVIL.encode())
    prompt = [{"role": "system", "content": EVIL}, {"role": "user", "content": "?"}]
    evil = record(3, teacher_text=EVIL, prompt=prompt, domain=EVIL, id=EVIL)
    evil = replace(evil, token_ends=[3, size], token_logprobs=[-0.05, -3.5])
    directory = cache(tmp_path / "c", [record(1), evil, record(2, token_ends=None, token_logprobs=None)])
    assert run(capsys, "show", directory, "--html", tmp_path / "new" / "p.html")[0] == 0
    html = (tmp_path / "new" / "p.html").read_text()
    page = Page(html)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "link", "iframe"}
    assert not any(key in ("src", "href") or key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert "default-src 'none'" in html
    assert not re.search(r"https?://|@import|url\(", html)
    text = "".join(data for data, _ in page.texts)
    assert text.count(EVIL) == 4
    coloured = [(data, facts["class"], facts["title"]) for data, facts in page.texts if "title" in facts]
    assert coloured == [
        ("Risp", "s1", "0.250 nats"),
        ("osta 1: così 👍🏽", "s4", "2.500 nats"),
        (EVIL[:3], "s0", "0.050 nats"),
        (EVIL[3:], "s5", "3.500 nats"),
    ]
    assert "prefers-color-scheme: dark" in html
    assert "width=device-width" in html
    assert "This record holds no log-probabilities" in text


# --- merge ------------------------------------------------------------------------------------------------------------


def test_merge_keeps_records_once_and_lists_sources(tmp_path, capsys):
    first = cache(tmp_path / "a", [record(i) for i in range(5)], licences={"teacher": "MIT", "prompts": None})
    second = cache(tmp_path / "b", [record(i) for i in range(3, 9)], licences={"teacher": "Apache-2.0"})
    code, printed = run(capsys, "merge", tmp_path / "out", first, second)
    assert code == 0
    assert "b: 6 records, 2 of them already there" in printed
    manifest = verify(tmp_path / "out")
    assert [r.id for r in read_records(tmp_path / "out")] == [f"id{i}" for i in range(9)]
    assert manifest["teacher"] == TEACHER
    assert [(s["name"], s["records"], s["already_there"]) for s in manifest["sources"]] == [("a", 5, 0), ("b", 6, 2)]
    assert manifest["licences"] == {"teacher": "MIT and Apache-2.0"}
    code, printed = run(capsys, "merge", tmp_path / "out", first, second)
    assert code == 1
    assert "is not empty" in printed
    assert run(capsys, "merge", tmp_path / "twice", first, first)[0] == 1


DIFFERENT = {
    "teacher": (
        {"teacher": {"name": "other", "sha256": "b" * 64}},
        ["teacher.name: 'tiny' and 'other'", "teacher.sha256"],
    ),
    "engine": ({"engine": {"name": "vllm", "version": "2.0"}}, ["engine.version: '1.0' and '2.0'"]),
    "decoding": ({"decoding": {"temperature": 0.7, "top_p": 1.0}}, ["decoding.temperature: 0.0 and 0.7"]),
    "tokenizer": ({"tokenizer": {"sha256": "c"}}, ["tokenizer: None and {'sha256': 'c'}"]),
}


@pytest.mark.parametrize("key", DIFFERENT)
def test_merge_refuses_other_provenance_unless_it_is_allowed(tmp_path, capsys, key):
    changes, named = DIFFERENT[key]
    first, second = cache(tmp_path / "a", [record(1)]), cache(tmp_path / "b", [record(2)], **changes)
    code, printed = run(capsys, "merge", tmp_path / "out", first, second)
    assert code == 1
    assert all(text in printed for text in named)
    assert f"--allow {key}" in printed
    assert not (tmp_path / "out").exists()
    other = "engine" if key != "engine" else "decoding"
    assert run(capsys, "merge", tmp_path / "out", first, second, "--allow", other)[0] == 1
    assert run(capsys, "merge", tmp_path / "out", first, second, "--allow", key)[0] == 0
    manifest = load_manifest(tmp_path / "out")
    if key == "teacher":
        assert manifest["teacher"]["name"] == "tiny + other"
    else:
        assert manifest[key] is None if key in manifest else key == "tokenizer"
    assert [source.get(key) for source in manifest["sources"]] == [load_manifest(c).get(key) for c in (first, second)]


def test_merge_names_all_differences_and_knows_its_keys(tmp_path, capsys):
    first = cache(tmp_path / "a", [record(1)])
    second = cache(tmp_path / "b", [record(2)], engine={"name": "hf", "version": "2"}, decoding={})
    code, printed = run(capsys, "merge", tmp_path / "out", first, second, "--allow", "engine.version")
    assert code == 1
    for text in ("engine.name", "decoding.temperature", "decoding.top_p"):
        assert text in printed
    assert "engine.version" not in printed
    code, printed = run(capsys, "merge", tmp_path / "out", first, second, "--allow", "motor")
    assert code == 1
    assert "Allowed: decoding, engine, teacher" in printed


def test_merge_refuses_one_id_with_two_contents(tmp_path, capsys):
    first, second = cache(tmp_path / "a", [record(1)]), cache(tmp_path / "b", [record(1, output_entropy=0.15)])
    code, printed = run(capsys, "merge", tmp_path / "out", first, second)
    assert code == 1
    assert "record id1 differs in output_entropy" in printed
    assert not (tmp_path / "out").exists()


def sides(directory: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for item in read_records(directory):
        found.setdefault(str(item.prompt), set()).add(item.split or "train")
    return found


@pytest.mark.parametrize("same_id", [True, False])
def test_a_prompt_stays_on_one_side(tmp_path, capsys, same_id):
    """The same prompt held out in one cache and trained on in the other; as one record or as two answers."""
    first = [record(i, split="heldout" if i == 0 else "train") for i in range(6)]
    again = record(0, split=None) if same_id else record(0, id="other", split="train", teacher_text="Another.")
    again = again if same_id else replace(again, token_ends=None, token_logprobs=None)
    second = [again, *(record(i, split="validation" if i == 9 else "train") for i in range(7, 12))]
    folders = cache(tmp_path / "a", first), cache(tmp_path / "b", second)
    code, printed = run(capsys, "merge", tmp_path / "out", *folders)
    assert code == 1
    assert "two sides" in printed
    assert "id0 (heldout, train)" in printed
    assert run(capsys, "merge", tmp_path / "out", *folders, "--resplit", "--seed", 3)[0] == 0
    found = sides(tmp_path / "out")
    assert all(len(side) == 1 for side in found.values())
    assert sum(side == {"heldout"} for side in found.values()) == 1
    assert sum(side == {"validation"} for side in found.values()) == 1


def test_merge_ranks_difficulty_over_everything(tmp_path, capsys):
    first = [record(i, self_consistency=0.5, difficulty_score=0.9) for i in range(2)]
    second = [record(i, self_consistency=0.5, difficulty_score=0.1) for i in range(1, 3)]
    assert run(capsys, "merge", tmp_path / "out", cache(tmp_path / "a", first), cache(tmp_path / "b", second))[0] == 0
    assert [r.difficulty_score for r in read_records(tmp_path / "out")] == [0.25, 0.5, 0.75]


def test_merge_refuses_a_damaged_cache(tmp_path, capsys):
    first, second = cache(tmp_path / "a", [record(1)]), damaged(tmp_path)
    assert run(capsys, "merge", tmp_path / "out", first, second)[0] == 1
    assert not (tmp_path / "out").exists()


# --- import -----------------------------------------------------------------------------------------------------------


def five(index: int, **changes: Any) -> str:
    fields = {
        "prompt": f"p{index}", "teacher_text": f"t{index}", "output_entropy": 0.5, "self_consistency": None,
        "difficulty_score": None,
    }  # fmt: skip
    return json.dumps(fields | changes)


def test_import_makes_a_verified_cache(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text("\ufeff" + five(0) + "\r\n\n" + five(1), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(to_line(record(7)) + "\n")
    words = ("--teacher", "Kimi", "--licence", "MIT", "--model", "org/kimi")
    code, printed = run(capsys, "import", tmp_path / "out", tmp_path / "a.jsonl", tmp_path / "b.jsonl", *words)
    assert code == 0
    assert "3 records of 3 prompts, 0 bad lines" in printed
    manifest = verify(tmp_path / "out")
    assert (manifest["teacher"]["name"], manifest["teacher"]["model"]) == ("Kimi", "org/kimi")
    assert manifest["licences"]["teacher"] == "MIT"
    assert [source["file"] for source in manifest["imported"]] == ["a.jsonl", "b.jsonl"]
    records = read_records(tmp_path / "out")
    assert [r.prompt for r in records] == ["p0", "p1", "Question 7"]
    assert records[2] == record(7)
    assert run(capsys, "verify", tmp_path / "out")[0] == 0
    assert len(IndexedCache(tmp_path / "out")) == 3


def test_import_names_bad_lines_and_skips_them_on_demand(tmp_path, capsys):
    lines = [five(0), five(1, output_entropy="high"), "{", five(0), five(2)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    code, printed = run(capsys, "import", tmp_path / "out", tmp_path / "a.jsonl")
    assert code == 1
    for text in ("a.jsonl, line 2: field 'output_entropy'", "a.jsonl, line 3:", "a.jsonl, line 4: field 'id'"):
        assert text in printed
    assert "3 bad lines, nothing written" in printed
    assert not (tmp_path / "out").exists()
    code, printed = run(capsys, "import", tmp_path / "out", tmp_path / "a.jsonl", "--skip-bad")
    assert code == 0
    assert "2 records of 2 prompts, 3 bad lines left out" in printed
    manifest = verify(tmp_path / "out")
    assert manifest["filters"] == [{"name": "bad_lines", "policy": "skip", "dropped": 3}]
    assert "line 2" in manifest["skipped_lines"][0]


def test_import_of_nothing_good(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text("{\n")
    code, printed = run(capsys, "import", tmp_path / "out", tmp_path / "a.jsonl", "--skip-bad")
    assert code == 1
    assert "no line is a record" in printed
    assert not (tmp_path / "out").exists()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "note.txt").write_text("mine")
    code, printed = run(capsys, "import", tmp_path / "kept", tmp_path / "a.jsonl")
    assert code == 1
    assert "not empty" in printed
    assert (tmp_path / "kept" / "note.txt").read_text() == "mine"
