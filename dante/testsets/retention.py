"""The retention texts: what a student could do before it was trained on the teacher's answers, and should still do.

The pocket cache holds English and Italian answers. DANTE's card claims that the embedding anchor keeps "multilingual
and code vocabulary"; to see that, the same model is scored before and after training on texts that no cache record
holds: articles 12 and on of the Universal Declaration of Human Rights in ten languages of five scripts, and functions
in four programming languages. `texts/sources.json` names packages, passages and licences, `texts/LICENCES.txt` holds
the notices, and `launch/retention_texts.py` rebuilds the set.

Two limits. Every text is well known, so a pretrained model has probably seen it: the difference between two states of
one model means something, the level does not. Items differ in size between languages and are not translations of each
other one by one, so slices are compared with themselves, not with one another.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dante.errors import DanteError
from dante.system.files import read_json

TEXTS = Path(__file__).with_name("texts")
SOURCES = "sources.json"
PARTS = ("packages", "slices", "data")
KINDS = ("language", "code")
FIELDS = ("id", "kind", "name", "text")
FIX = "restore the file, or rebuild the set with `python launch/retention_texts.py`"


@dataclass(frozen=True)
class RetentionText:
    """One passage, 300 to 750 bytes of UTF-8: the unit over which a standard error is taken.

    Attributes:
        id: unique, `<name>-<number>`.
        kind: `language` or `code`.
        name: of the slice: an ISO 639-1 code (`it`) or a programming language (`python`).
        text: in Unicode normal form C, lines ended by LF, no line break at either end.
    """

    id: str
    kind: str
    name: str
    text: str


def sources(folder: Path = TEXTS) -> dict[str, Any]:
    """Where the texts come from: `data` (file, sizes, SHA-256), `packages` (licences) and `slices` (passages).

    Raises:
        DanteError: when the file is missing, is not JSON or lacks one of the three.
    """
    path = folder / SOURCES
    if not path.is_file():
        raise DanteError(f"no {SOURCES} beside the retention texts", where=str(path), fix=FIX)
    listing = read_json(path)
    if not isinstance(listing, dict) or not set(PARTS) <= set(listing):
        raise DanteError(
            f"{SOURCES} lacks a part", where=str(path), allowed=f"an object with {', '.join(PARTS)}", fix=FIX
        )
    return listing


def retention_texts(folder: Path = TEXTS) -> list[RetentionText]:
    """All passages in the order of the file, slice by slice, after the file's hash was checked.

    Raises:
        DanteError: when the file is missing, is not the one that `sources.json` describes, or has a bad line.
    """
    facts = sources(folder)["data"]
    path = folder / facts["file"]
    if not path.is_file():
        raise DanteError("no retention texts", where=str(path), fix=FIX)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != facts["sha256"]:
        raise DanteError(
            f"the retention texts have SHA-256 {digest[:12]}…, {SOURCES} says {facts['sha256'][:12]}…",
            where=str(path),
            allowed="the very bytes that were recorded: scores of other texts cannot be compared",
            fix=FIX,
        )
    return [_parse(line, f"{path}, line {number}") for number, line in enumerate(content.splitlines(), start=1)]


def _parse(line: bytes, where: str) -> RetentionText:
    allowed = f"one JSON object with the texts {', '.join(FIELDS)}; kind is {' or '.join(KINDS)}"
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DanteError(f"not JSON ({error})", where=where, allowed=allowed, fix=FIX) from None
    good = isinstance(row, dict) and set(row) == set(FIELDS) and all(type(row[name]) is str for name in FIELDS)
    if not good or row["kind"] not in KINDS or not row["text"].strip():
        raise DanteError(f"not a retention text: {line[:60]!r}", where=where, allowed=allowed, fix=FIX)
    return RetentionText(**row)
