"""The index of a cache: the same records by number and by id, whatever the shards are, and never a stale one."""

import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from dante.cache import CacheWriter, Record, read_records, verify
from dante.cache.records.columns import id_hash
from dante.cache.records.frames import RECORDS_PER_FRAME, blocks, lines, read_block
from dante.cache.records.index import IndexedCache
from dante.cache.records.index_file import BINDING, TABLE
from dante.cache.records.reader import read_lines
from dante.cache.records.record import to_line
from dante.cache.shipped import POCKET
from dante.errors import DanteError


def record(index: int, text: str = "") -> Record:
    return Record(f"id{index}", f"prompt {index}", text or f"answer {index} 👍🏽 " + "x" * (index % 7), 0.01 * index)


def write(directory: Path, count: int, records_per_shard: int = 50_000) -> list[Record]:
    records = [record(i) for i in range(count)]
    CacheWriter(directory, records_per_shard).add(records).seal()
    return records


TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=12)
FULL_TEXT = TEXT.filter(lambda text: bool(text.strip()))
LOGPROB = st.floats(-20, 0)


@st.composite
def any_record(draw: st.DrawFn) -> Record:
    """A record of whatever a line may hold, fields left out as often as not."""
    text = draw(FULL_TEXT)
    size = len(text.encode())
    entropy = draw(st.floats(0, 10))
    ends = draw(st.none() | st.lists(st.integers(0, size), max_size=4).map(lambda found: [*sorted(found), size]))
    turns = FULL_TEXT | st.lists(FULL_TEXT.map(lambda t: {"role": "user", "content": t}), min_size=1, max_size=2)
    return Record(
        id=draw(TEXT.filter(bool)),
        prompt=draw(turns),
        teacher_text=text,
        output_entropy=entropy,
        output_entropy_upper=draw(st.none() | st.just(entropy + 1.0)),
        domain=draw(st.none() | TEXT),
        language=draw(st.none() | TEXT),
        finish_reason=draw(st.none() | TEXT),
        split=draw(st.sampled_from(["train", None])),
        token_ends=ends,
        token_logprobs=None if ends is None else draw(st.lists(LOGPROB, min_size=len(ends), max_size=len(ends))),
    )


@given(records=st.lists(any_record(), min_size=1, max_size=12, unique_by=lambda r: r.id), per_shard=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_any_records_come_back_by_number_and_by_id(records, per_shard):
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        CacheWriter(directory, per_shard).add(records).seal()
        for rebuilt in (False, True):
            if rebuilt:
                (directory / BINDING).unlink()
            cache = IndexedCache(directory)
            assert bool(cache.made_because) == rebuilt
            assert [cache.record(i) for i in range(len(cache))] == records == read_records(directory)
            assert cache.ids.to_pylist() == [r.id for r in records]
            for known in reversed(records):
                assert cache.by_id(known.id) == known
            table = cache.columns.to_pylist()
            assert [row["split"] for row in table] == [r.split for r in records]
            assert [row["domain"] for row in table] == [r.domain for r in records]
            assert [row["language"] for row in table] == [r.language for r in records]
            assert [row["finish_reason"] for row in table] == [r.finish_reason for r in records]
            assert [row["output_entropy"] for row in table] == [r.output_entropy for r in records]
            assert [row["output_entropy_upper"] for row in table] == [r.output_entropy_upper for r in records]
            assert [row["answer_bytes"] for row in table] == [len(r.teacher_text.encode()) for r in records]
            assert [row["tokens"] for row in table] == [r.token_ends and len(r.token_ends) for r in records]


def test_written_and_rebuilt_index_are_the_same_bytes(tmp_path):
    write(tmp_path, 700, records_per_shard=300)
    before = {name: (tmp_path / name).read_bytes() for name in (TABLE, BINDING)}
    (tmp_path / TABLE).unlink()
    assert IndexedCache(tmp_path).made_because == "missing"
    assert {name: (tmp_path / name).read_bytes() for name in (TABLE, BINDING)} == before


def test_shards_do_not_depend_on_how_records_are_handed_over(tmp_path):
    records = [record(i) for i in range(2 * RECORDS_PER_FRAME + 5)]
    CacheWriter(tmp_path / "a").add(records).seal(teacher={"name": "one"})
    writer = CacheWriter(tmp_path / "b")
    for start in range(0, len(records), 7):
        writer.add(iter(records[start : start + 7]))
    writer.seal(teacher={"name": "another"})
    name = "records-00000.jsonl.zst"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_shard_is_a_row_of_frames_that_others_read_as_one(tmp_path):
    records = write(tmp_path, 3 * RECORDS_PER_FRAME + 1)
    path = tmp_path / "records-00000.jsonl.zst"
    found = list(blocks(path))
    assert [block.text.count(b"\n") for block in found] == [RECORDS_PER_FRAME] * 3 + [1]
    assert sum(block.size for block in found) == path.stat().st_size
    assert [read_block(path, block.offset, block.size) for block in found] == [block.text for block in found]
    expected = "".join(to_line(r) + "\n" for r in records).encode()
    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as stream:
        assert stream.read() == expected
    whole = io.BytesIO()
    with path.open("rb") as raw:
        zstandard.ZstdDecompressor().copy_stream(raw, whole)
    assert whole.getvalue() == expected


@given(
    texts=st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b" ")), max_size=30),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    last=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_frames_that_cut_lines_are_joined(texts, cuts, last):
    """Others compress in pieces of equal size, which end anywhere."""
    data = b"\n".join(texts) + (b"\n" if last and texts else b"")
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    raw = b"".join(
        zstandard.ZstdCompressor().compress(data[a:b]) for a, b in zip(places, places[1:], strict=False) if b > a
    )
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "records-0.jsonl.zst"
        path.write_bytes(raw)
        found = list(blocks(path))
        assert b"".join(block.text for block in found) == data
        assert all(block.text.endswith(b"\n") for block in found[:-1])
        assert b"".join(read_block(path, block.offset, block.size) for block in found) == data
        assert list(lines(path)) == (
            data.split(b"\n")[:-1] if data.endswith(b"\n") else data.split(b"\n") if data else []
        )


def test_caches_of_others(tmp_path):
    """Plain lines with blank ones between, one huge frame, no manifest, no ids, one file alone."""
    records = [record(i) for i in range(600)]
    text = "\n".join(to_line(r) + ("\n" if i % 3 else "") for i, r in enumerate(records)).encode()
    folders = {"plain": tmp_path / "plain", "frame": tmp_path / "frame"}
    for folder in folders.values():
        folder.mkdir()
    (folders["plain"] / "mine.jsonl").write_bytes(text)
    (folders["frame"] / "mine.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(text))
    for source in (*folders.values(), folders["plain"] / "mine.jsonl", folders["frame"] / "mine.jsonl.zst"):
        cache = IndexedCache(source)
        assert [cache.record(i) for i in range(len(cache))] == records
        assert cache.by_id("id77") == records[77]
    assert not list(tmp_path.glob("index.*")), "one file alone gets no index beside it"
    assert IndexedCache(folders["plain"]).made_because == ""
    with (folders["plain"] / "mine.jsonl").open("ab") as file:
        file.write(b"\n" + to_line(record(1000)).encode())
    cache = IndexedCache(folders["plain"])
    assert "stale" in cache.made_because
    assert cache.record(-1).id == "id1000"


def test_the_shipped_cache_needs_no_index():
    cache = IndexedCache(POCKET, keep=False)
    assert cache.made_because == "missing"
    assert not list(POCKET.glob("index.*"))
    records = read_records(POCKET)
    assert [cache.record(i) for i in range(0, len(cache), 97)] == records[::97]
    assert cache.by_id(records[5].id) == records[5]


def test_a_cache_with_an_index_is_verified_like_one_without(tmp_path):
    write(tmp_path, 10)
    assert {TABLE, BINDING} <= set(os.listdir(tmp_path))
    manifest = verify(tmp_path)
    (tmp_path / TABLE).unlink()
    assert verify(tmp_path) == manifest
    assert len(read_records(tmp_path)) == 10


# --- not trusted ------------------------------------------------------------------------------------------------------


def test_an_index_of_other_shards_is_not_used(tmp_path):
    write(tmp_path / "old", 5)
    records = [replace(record(i), id=f"new{i}") for i in range(5)]
    CacheWriter(tmp_path / "new").add(records).seal()
    for name in (TABLE, BINDING):
        (tmp_path / "new" / name).write_bytes((tmp_path / "old" / name).read_bytes())
    cache = IndexedCache(tmp_path / "new")
    assert "stale" in cache.made_because
    assert cache.ids.to_pylist() == [r.id for r in records]
    assert IndexedCache(tmp_path / "new").made_because == "", "it was made again and kept"


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_damaged_index_is_not_used(tmp_path, place):
    records = write(tmp_path, 50)
    raw = bytearray((tmp_path / TABLE).read_bytes())
    raw[int(len(raw) * place)] ^= 1
    (tmp_path / TABLE).write_bytes(bytes(raw))
    cache = IndexedCache(tmp_path)
    assert "damaged" in cache.made_because
    assert [cache.record(i) for i in range(50)] == records


@pytest.mark.parametrize("content", ["", "[]", '{"version": 1}', '{"version": 99}', "{"])
def test_a_binding_that_says_nothing_is_not_used(tmp_path, content):
    write(tmp_path, 5)
    (tmp_path / BINDING).write_text(content)
    assert IndexedCache(tmp_path).made_because
    assert IndexedCache(tmp_path).made_because == ""


def test_a_folder_that_cannot_be_written_keeps_the_index_in_memory(tmp_path):
    records = write(tmp_path, 20)
    (tmp_path / TABLE).unlink()
    (tmp_path / f".{TABLE}.writing").mkdir()  # as good as a read-only disk, which root would not notice
    cache = IndexedCache(tmp_path)
    assert cache.record(3) == records[3]
    assert not (tmp_path / TABLE).exists()


def test_a_damaged_shard_is_noticed_on_rebuilding_and_on_reading(tmp_path):
    write(tmp_path, 2 * RECORDS_PER_FRAME)
    path = tmp_path / "records-00000.jsonl.zst"
    second = list(blocks(path))[1]
    raw = bytearray(path.read_bytes())
    raw[second.offset + second.size // 2] ^= 4
    path.write_bytes(bytes(raw))
    cache = IndexedCache(tmp_path)  # same sizes: opening does not read the shards
    assert cache.record(0) == record(0)
    with pytest.raises(DanteError, match="damaged"):
        cache.record(RECORDS_PER_FRAME)
    (tmp_path / TABLE).unlink()
    with pytest.raises(DanteError, match="SHA-256"):
        IndexedCache(tmp_path)
    path.write_bytes(bytes(raw[:-1]))
    with pytest.raises(DanteError, match="bytes"):
        IndexedCache(tmp_path)
    path.unlink()
    with pytest.raises(DanteError, match="disagree"):
        IndexedCache(tmp_path)


def test_records_that_changed_places_are_noticed(tmp_path):
    """Two lines of one length exchanged under an open cache: good records, but not those of the index."""
    found = [to_line(Record(f"id{i}", f"prompt {i}", "answer", 0.5)) + "\n" for i in (1, 2)]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(found))
    cache = IndexedCache(tmp_path)
    path.write_text("".join(reversed(found)))
    with pytest.raises(DanteError, match="record 0 has the id 'id2', the index says 'id1'"):
        cache.record(0)


@pytest.mark.parametrize("end", [1, 4, 10])
def test_a_shard_that_is_cut_inside_a_frame_is_an_error(tmp_path, end):
    """zstandard's own stream reader says nothing when only the checksum is missing."""
    write(tmp_path, 20)
    path = tmp_path / "records-00000.jsonl.zst"
    path.write_bytes(path.read_bytes()[:-end])
    with pytest.raises(DanteError, match="ends inside a frame"):
        list(read_lines(path))


def test_numbers_and_ids_that_are_not_there(tmp_path):
    write(tmp_path, 3)
    cache = IndexedCache(tmp_path)
    assert len(cache) == 3
    assert cache.record(-1).id == "id2"
    for index in (3, -4):
        with pytest.raises(IndexError):
            cache.record(index)
    assert cache.row_of("nobody") is None
    with pytest.raises(DanteError, match="no record 'nobody'"):
        cache.by_id("nobody")


def test_ids_with_one_hash_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("dante.cache.records.columns.id_hash", lambda identity: id_hash("") + len(identity))
    records = write(tmp_path, 12)
    monkeypatch.setattr("dante.cache.records.index.id_hash", lambda identity: id_hash("") + len(identity))
    cache = IndexedCache(tmp_path)
    assert [cache.by_id(r.id) for r in records] == records
    assert cache.row_of("idx") is None


def test_worker_processes_open_it_again(tmp_path):
    records = write(tmp_path, 30)
    cache = IndexedCache(tmp_path)
    state = pickle.dumps(cache)
    assert len(state) < 1000
    assert pickle.loads(state).record(7) == records[7]


def test_the_writer_holds_no_records(tmp_path):
    """90 MB of text written from a generator; what stays of a record is its id, its row and a digest of its prompt."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from dante.cache import CacheWriter, Record\n"
        "def some(n): return (Record(str(i), f'{i}?' * 100, f'{i} ' * 500, 0.5) for i in range(n))\n"
        "def resident_kib(): return int(Path('/proc/self/statm').read_text().split()[1]) * 4\n"
        "CacheWriter(Path(sys.argv[1]) / 'warm').add(some(3000)).seal()\n"
        "before = resident_kib()\n"
        "writer = CacheWriter(Path(sys.argv[1]) / 'full').add(some(24_000))\n"
        "print(resident_kib() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40_000, "KiB"


def test_line_numbers_count_blank_lines(tmp_path):
    path = tmp_path / "records-0.jsonl"
    path.write_text("\n\n" + to_line(record(1)) + "\n\n{broken\n")
    with pytest.raises(DanteError, match="line 5"):
        IndexedCache(path)
    with pytest.raises(DanteError, match="line 5"):
        read_records(path)


@pytest.mark.parametrize("line", [rb'"\ud83d"', b'"\xed\xa0\xbd"', b'"\xff"'])
def test_half_characters_are_bad_lines(tmp_path, line):
    """They could be read, but never written again."""
    fields = to_line(record(1)).replace(json.dumps("prompt 1"), "@").encode().replace(b"@", line)
    (tmp_path / "records-0.jsonl").write_bytes(fields + b"\n")
    with pytest.raises(DanteError, match="line 1"):
        read_records(tmp_path)
