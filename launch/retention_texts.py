#!/usr/bin/env python3
"""Rebuilds the retention texts (`dante/testsets/texts`) from the packages that `sources.json` there names.

    python launch/retention_texts.py            downloads, cuts, writes retention.jsonl, LICENCES.txt and the hash
    python launch/retention_texts.py --check    the same in memory: fails when a committed file would change

Needs `npm` and `pip`; the standard library is enough. `sources.json` is the recipe and is written by hand, but for its
`data` entry, which says what came out. A source file whose SHA-256 is not the recorded one stops the build, so the
texts are the same bytes wherever they are rebuilt.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import unicodedata
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

TEXTS = Path(__file__).resolve().parents[1] / "dante" / "testsets" / "texts"
RECIPE, LICENCES = TEXTS / "sources.json", TEXTS / "LICENCES.txt"

# An item is closed at the end of the sentence with which it reaches this size.
ITEM_BYTES = 300
# Where a sentence ends: a stop before a space, or the full-width stop of Chinese and Japanese.
SENTENCE_END = re.compile(r"(?<=[.!?؟])(?= )|(?<=[。！？])")


class Articles(HTMLParser):
    """Paragraphs of each numbered article of a declaration; headings, preamble and notes are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: dict[int, list[str]] = {}
        self._article: int | None = None
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "article":
            self._article = int(dict(attrs)["data-number"] or 0)
        elif tag == "p" and self._article is not None:
            self._inside = True
            self.paragraphs.setdefault(self._article, []).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._article = None
        elif tag == "p":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside and self._article is not None:
            self.paragraphs[self._article][-1] += data


def cut_articles(html: str, settings: dict[str, Any]) -> list[str]:
    """`items` runs of whole sentences, from article `first` on; a paragraph's end is a line break.

    `replace` puts the usual character where the edition has a typographer's one (U+2010 for a hyphen) or an ASCII one
    (a half-width comma in Chinese), because a character that nobody writes would weigh too much in so few bytes.
    """
    replacements = str.maketrans(settings["replace"])
    articles = Articles()
    articles.feed(html)
    items, item = [], ""
    for number in sorted(articles.paragraphs):
        if number < settings["first"]:
            continue
        for paragraph in articles.paragraphs[number]:
            # Only ASCII white space is layout; a no-break space belongs to French punctuation.
            line = re.sub(r"[ \t\r\n]+", " ", paragraph).strip(" ").translate(replacements)
            for sentence in SENTENCE_END.split(line + "\n"):
                item += sentence
                if len(item.strip().encode()) >= ITEM_BYTES:
                    items.append(item.strip())
                    item = ""
    return items[: settings["items"]]


def cut_lines(source: str, ranges: list[str]) -> list[str]:
    """The given ranges (`first-last`, lines from 1), each without the indentation that all its lines share."""
    lines = source.split("\n")
    bounds = [tuple(map(int, each.split("-"))) for each in ranges]
    return [textwrap.dedent("\n".join(lines[first - 1 : last])).strip("\n") for first, last in bounds]


CUTTERS: dict[str, Callable[[str, Any], list[str]]] = {"articles": cut_articles, "lines": cut_lines}


def npm(name: str, version: str, folder: Path) -> None:
    subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def pip(name: str, version: str, folder: Path) -> None:
    _pip("--only-binary", name, version, folder)


def pip_source(name: str, version: str, folder: Path) -> None:
    _pip("--no-binary", name, version, folder)


def _pip(kind: str, name: str, version: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", kind, name, f"{name}=={version}"]
    subprocess.run([*command, "--dest", str(folder)], check=True)


CLIENTS: dict[str, Callable[[str, str, Path], None]] = {"npm": npm, "pip": pip, "pip source": pip_source}


def members(archive: Path) -> dict[str, bytes]:
    """Files of an archive by their path in it; nothing is unpacked to disk."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            return {name: file.read(name) for name in file.namelist()}
    with tarfile.open(archive) as file:
        return {entry.name: file.extractfile(entry).read() for entry in file if entry.isfile()}  # type: ignore[union-attr]


def download(packages: dict[str, Any]) -> dict[str, dict[str, bytes]]:
    """Files of every package, by package and path."""
    found = {}
    for name, package in packages.items():
        print(f"{package['client']}: {name} {package['version']}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            CLIENTS[package["client"]](name, package["version"], Path(folder))
            (archive,) = Path(folder).iterdir()
            found[name] = members(archive)
    return found


def cut(piece: dict[str, Any], files: dict[str, dict[str, bytes]]) -> list[str]:
    """The texts of one slice, in Unicode normal form C with plain line feeds."""
    source = files[piece["package"]][piece["file"]]
    digest = hashlib.sha256(source).hexdigest()
    if digest != piece["sha256"]:
        sys.exit(f"{piece['package']}: {piece['file']} has SHA-256 {digest}, sources.json says {piece['sha256']}")
    text = unicodedata.normalize("NFC", source.decode("utf-8-sig").replace("\r\n", "\n"))
    ((method, settings),) = piece["cut"].items()
    return CUTTERS[method](text, settings)


def licences(recipe: dict[str, Any], files: dict[str, dict[str, bytes]]) -> str:
    """Every package's own notice, word for word, after a line that says what it covers."""
    parts = ["The texts of retention.jsonl come from these packages; sources.json says which passages.\n"]
    for name, package in recipe["packages"].items():
        notice = package["notice"]
        text = files[name][notice["file"]].decode().replace("\r\n", "\n")
        if "lines" in notice:
            (text,) = cut_lines(text, [notice["lines"]])
        names = ", ".join(piece["name"] for piece in recipe["slices"] if piece["package"] == name)
        terms = "\n".join(textwrap.wrap(package["terms"], 100))
        head = f"{name} {package['version']} ({package['licence']}): {names}\n{terms}"
        parts.append(f"{'=' * 100}\n{head}\nNotice, from {notice['file']}:\n\n{text.strip()}\n")
    return "\n".join(parts)


def build(recipe: dict[str, Any], files: dict[str, dict[str, bytes]]) -> dict[Path, str]:
    """Content of every file of the set, by path; prints a line per slice."""
    rows, total = [], 0
    for piece in recipe["slices"]:
        texts = cut(piece, files)
        sizes = [len(text.encode()) for text in texts]
        total += sum(sizes)
        print(f"{piece['name']:<12} {len(sizes):3d} items  {sum(sizes):5d} bytes  {min(sizes)} to {max(sizes)} each")
        for number, text in enumerate(texts, 1):
            identity = f"{piece['name']}-{number:02d}"
            rows.append({"id": identity, "kind": piece["kind"], "name": piece["name"], "text": text})
    data = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    digest = hashlib.sha256(data.encode()).hexdigest()
    facts = {"file": "retention.jsonl", "items": len(rows), "text_bytes": total, "sha256": digest}
    print(f"{'all':<12} {len(rows):3d} items  {total:5d} bytes")
    return {
        TEXTS / facts["file"]: data,
        LICENCES: licences(recipe, files),
        RECIPE: json.dumps({**recipe, "data": facts}, indent=2, ensure_ascii=False) + "\n",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a committed file would change")
    check = parser.parse_args().check
    recipe = json.loads(RECIPE.read_text(encoding="utf-8"))
    built = build(recipe, download(recipe["packages"]))
    changed = [path for path, content in built.items() if not path.is_file() or path.read_bytes() != content.encode()]
    if not check:
        for path in changed:
            path.write_bytes(built[path].encode())
    names = ", ".join(path.name for path in changed)
    if check and changed:
        sys.exit(f"not what the packages give: {names}")
    print(f"written: {names}" if changed else "every file is as committed")


if __name__ == "__main__":
    main()
