"""The retention texts: as many and as large as promised, clean, licensed, and unknown to the pocket cache."""

import hashlib
import importlib.util
import json
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from dante.cache import Record, read_records
from dante.cache.shipped import POCKET
from dante.errors import DanteError
from dante.testsets.retention import TEXTS, RetentionText, retention_texts, sources

SCRIPTS = {"ru": {"CYRILLIC"}, "ar": {"ARABIC"}, "zh": {"CJK"}, "ja": {"CJK", "HIRAGANA", "KATAKANA"}}
LATIN = {"en", "it", "fr", "de", "es", "pt"}
CODE = {"python", "javascript", "c", "rust"}
# Chinese and Japanese are written without spaces: there a shared passage is a run of characters.
UNSPACED = {"zh", "ja"}
WORDS, CHARACTERS = 13, 40


@pytest.fixture(scope="module")
def texts() -> list[RetentionText]:
    return retention_texts()


def by_name(texts: list[RetentionText]) -> dict[str, list[RetentionText]]:
    return {name: [text for text in texts if text.name == name] for name in dict.fromkeys(t.name for t in texts)}


def test_slices_hold_enough_items_of_the_promised_size(texts: list[RetentionText]) -> None:
    slices = by_name(texts)
    assert set(slices) == LATIN | set(SCRIPTS) | CODE
    assert len({text.id for text in texts}) == len({text.text for text in texts}) == len(texts)
    for name, items in slices.items():
        sizes = [len(item.text.encode()) for item in items]
        assert 8 <= len(items) <= 12
        assert 3000 <= sum(sizes) <= 5000, name
        assert 300 <= min(sizes) <= max(sizes) <= 750, name
        assert {item.kind for item in items} == {"code" if name in CODE else "language"}
        assert all(item.id.startswith(f"{name}-") for item in items)
    assert sum(len(text.text.encode()) for text in texts) <= 70_000


def test_texts_are_clean(texts: list[RetentionText]) -> None:
    raw = (TEXTS / "retention.jsonl").read_bytes()
    assert not raw.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    for item in texts:
        assert unicodedata.is_normalized("NFC", item.text), item.id
        assert item.text == item.text.strip("\n"), item.id
        odd = [c for c in item.text if unicodedata.category(c) in ("Cc", "Cf", "Cn", "Co", "Cs") and c != "\n"]
        assert not odd, (item.id, odd)
        assert "\ufffd" not in item.text
        if item.kind == "language":
            assert not re.search(r"[<>{}|\\]|&\w+;|https?:", item.text), item.id
        else:
            assert not re.search(r"(?i)copyright|licen[cs]e|warrant", item.text), item.id


def test_every_letter_of_a_language_is_of_its_script(texts: list[RetentionText]) -> None:
    """Text decoded with the wrong encoding turns Cyrillic or Arabic into accented Latin letters."""
    for item in texts:
        if item.kind == "language":
            letters = {unicodedata.name(c).split()[0] for c in item.text if c.isalpha() and c not in "ªº"}
            assert letters <= SCRIPTS.get(item.name, {"LATIN"}), (item.id, letters)
            assert not re.search("[ÃÂ][\u0080-\u00bf]", item.text), item.id


def grams(text: str, unspaced: bool) -> Iterator[str]:
    """Runs of 13 words (case and punctuation ignored), or of 40 characters (white space ignored)."""
    if unspaced:
        whole = "".join(text.split())
        yield from (whole[start : start + CHARACTERS] for start in range(len(whole) - CHARACTERS + 1))
    else:
        words = re.findall(r"\w+", text.lower())
        yield from (" ".join(words[start : start + WORDS]) for start in range(len(words) - WORDS + 1))


def shared(texts: Iterable[RetentionText], records: Iterable[Record]) -> set[str]:
    """Ids of the texts that have a run in common with a record's prompt or answer."""
    owners = {gram: text.id for text in texts for gram in grams(text.text, text.name in UNSPACED)}
    found = set()
    for record in records:
        prompt = [record.prompt] if isinstance(record.prompt, str) else [turn["content"] for turn in record.prompt]
        for passage in (*prompt, record.teacher_text):
            for unspaced in (False, True):
                found |= {owners[gram] for gram in grams(passage, unspaced) if gram in owners}
    return found


def test_no_text_is_in_the_pocket_cache(texts: list[RetentionText]) -> None:
    for item in texts:  # an item that has no run could never be found
        assert next(grams(item.text, item.name in UNSPACED), None), item.id
    assert shared(texts, read_records(POCKET)) == set()


def test_a_text_inside_a_record_would_be_found(texts: list[RetentionText]) -> None:
    slices = by_name(texts)
    for name in ("it", "ja", "c"):
        item = slices[name][3]
        quoted = item.text[20:].upper() if name != "ja" else item.text[10:90]
        answer = Record("planted", "Quote it.", f"Here it is: {quoted}", 0.1)
        asked = Record("asked", [{"role": "user", "content": f"Explain: {quoted}"}], "No.", 0.1)
        assert shared(texts, [answer]) == {item.id}
        assert shared(texts, [asked]) == {item.id}


def test_sources_describe_the_data(texts: list[RetentionText]) -> None:
    found = sources()
    data = found["data"]
    assert hashlib.sha256((TEXTS / data["file"]).read_bytes()).hexdigest() == data["sha256"]
    assert data["items"] == len(texts)
    assert data["text_bytes"] == sum(len(text.text.encode()) for text in texts)
    assert [piece["name"] for piece in found["slices"]] == list(by_name(texts))
    for piece in found["slices"]:
        assert piece["title"]
        assert re.fullmatch("[0-9a-f]{64}", piece["sha256"])
        package = found["packages"][piece["package"]]
        assert package["licence"] in ("MIT", "BSD-3-Clause")
        assert package["version"]


def test_every_package_keeps_its_notice() -> None:
    notices = (TEXTS / "LICENCES.txt").read_text(encoding="utf-8")
    found = sources()
    for name, package in found["packages"].items():
        slices = ", ".join(piece["name"] for piece in found["slices"] if piece["package"] == name)
        begin = notices.index(f"{name} {package['version']} ({package['licence']}): {slices}\n")
        notice = notices[begin:].split("=" * 100)[0]
        assert "Copyright" in notice
        grants = "Permission is hereby granted" if package["licence"] == "MIT" else "Redistribution and use in source"
        assert grants in notice


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TEXTS, tmp_path / "texts"))


def test_a_changed_or_missing_file_is_refused(copied: Path) -> None:
    assert retention_texts(copied) == retention_texts()
    path = copied / "retention.jsonl"
    path.write_bytes(path.read_bytes().replace(b"Everyone", b"Everybody", 1))
    with pytest.raises(DanteError, match=r"SHA-256.*cannot be compared.*launch/retention_texts\.py"):
        retention_texts(copied)
    path.unlink()
    with pytest.raises(DanteError, match=r"no retention texts.*retention\.jsonl"):
        retention_texts(copied)
    (copied / "sources.json").write_text('{"data": {}}')
    with pytest.raises(DanteError, match="lacks a part.*packages, slices, data"):
        sources(copied)
    (copied / "sources.json").unlink()
    with pytest.raises(DanteError, match=r"no sources\.json"):
        sources(copied)


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"\xff",
        b"[]",
        b'{"id": "a", "kind": "language", "name": "it"}',
        b'{"id": "a", "kind": "poem", "name": "it", "text": "b"}',
        b'{"id": "a", "kind": "code", "name": "c", "text": 1}',
        b'{"id": "a", "kind": "code", "name": "c", "text": " "}',
    ],
)
def test_a_bad_line_names_file_and_line(copied: Path, line: bytes) -> None:
    path = copied / "retention.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n")
    described = json.loads((copied / "sources.json").read_text(encoding="utf-8"))
    described["data"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (copied / "sources.json").write_text(json.dumps(described))
    with pytest.raises(DanteError, match=r"retention\.jsonl, line 141.*language or code"):
        retention_texts(copied)


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    path = Path(__file__).parents[1] / "launch" / "retention_texts.py"
    spec = importlib.util.spec_from_file_location("retention_builder", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_articles_are_cut_at_sentences_without_headings(builder: ModuleType) -> None:
    long, short = "a" * 297 + " b.", "c\u2010d &amp; e."
    page = f"""<body><h1>Title</h1><header><p>Preamble.</p></header>
      <article data-number="1"><h2>One</h2><p>Left out.</p></article>
      <article data-number="2"><h2>Two</h2><ol><li><p>{long} {short}</p></li>
        <li><p>Next
          line\u00a0!</p></li></ol></article>
      <article data-number="3"><p>{long}</p><p>Never closed.</p></article></body>"""
    settings = {"first": 2, "items": 5, "replace": {"\u2010": "-"}}
    assert builder.cut_articles(page, settings) == [long, f"c-d & e.\nNext line\u00a0!\n{long}"]


def test_lines_are_cut_with_their_common_indent_removed(builder: ModuleType) -> None:
    assert builder.cut_lines("a\n    b\n\n      c\nd", ["2-4", "5-5"]) == ["b\n\n  c", "d"]


def test_a_changed_source_stops_the_build(builder: ModuleType) -> None:
    piece = {"package": "p", "file": "f", "sha256": hashlib.sha256(b"one\n").hexdigest(), "cut": {"lines": ["1-1"]}}
    assert builder.cut(piece, {"p": {"f": b"one\n"}}) == ["one"]
    with pytest.raises(SystemExit, match=r"p: f has SHA-256 .*sources\.json says"):
        builder.cut(piece, {"p": {"f": b"two\n"}})
