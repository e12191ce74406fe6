"""Reads shards: `.jsonl.zst`, plain `.jsonl`, or a folder of them; every line is checked."""

import json
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from dante.cache.records.conversation import refuse_half_characters
from dante.cache.records.fields import FieldError
from dante.cache.records.frames import lines
from dante.cache.records.record import Record, Split, parse_record, prompt_hash, stable_hash
from dante.errors import DanteError

Policy = Literal["error", "skip"]
SUFFIXES = (".jsonl", ".jsonl.zst")
BOM = b"\xef\xbb\xbf"
# Where an error does not say by itself what to do.
CORRECT = "correct the line"


def shard_paths(source: Path) -> list[Path]:
    """The shards of a cache directory in name order, or the one file that was named."""
    source = Path(source)
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DanteError(f"no cache at {source}", where=str(source), allowed="a cache directory, or a .jsonl file")
    shards = sorted(path for path in source.iterdir() if path.name.endswith(SUFFIXES))
    if not shards:
        raise DanteError("no shards in the cache directory", where=str(source), allowed="*.jsonl.zst or *.jsonl")
    return shards


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line) of one shard; blank lines are left out."""
    for number, line in enumerate(lines(path), start=1):
        if line and not line.isspace():
            yield number, line


def read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number from 1, parsed line) of a JSONL file that need not hold records.

    Raises:
        DanteError: a line that is not JSON, named.
    """
    for number, line in read_lines(path):
        try:
            yield number, parse_json(line)
        except FieldError as error:
            raise error.at(f"{path}, line {number}", CORRECT) from None


def scan(source: Path, policy: Policy) -> tuple[list[Record], list[str]]:
    """All records of a cache, and a message for every line that was skipped.

    Raises:
        DanteError: at the first bad line when the policy is `error`; naming file, line, field, value and what is
            allowed. A duplicate id is a bad line.
    """
    if policy not in ("error", "skip"):
        raise DanteError(f"unknown policy {policy!r}", where="cache.policy", allowed="error, skip")
    records: list[Record] = []
    skipped: list[str] = []
    seen: set[str] = set()
    for path in shard_paths(source):
        for number, line in read_lines(path):
            try:
                record = parse_line(line, seen)
            except FieldError as error:
                problem = DanteError(
                    str(error),
                    where=f"{path}, line {number}",
                    allowed=error.allowed,
                    fix=f"{error.fix or CORRECT}; or skip bad lines: cache.source.policy=skip",
                )
                if policy == "error":
                    raise problem from None
                skipped.append(str(problem))
                continue
            seen.add(record.id)
            records.append(record)
    return records, skipped


def read_records(directory: Path | str, split: Split | None = None, policy: Policy = "error") -> list[Record]:
    """The records of a cache (one split of it, or all), in the order of the shards.

    A cache without splits counts as training data. Asking for a split that has no records is an error.
    """
    records, _ = scan(Path(directory), policy)
    if split is not None:
        records = [record for record in records if (record.split or "train") == split]
    if not records:
        raise DanteError(
            f"the cache has no {split or ''} records".replace("  ", " "),
            where=str(directory),
            fix="check the shards; cache.source.heldout decides how many prompts are held out",
        )
    return records


def first_answers(records: Sequence[Record]) -> list[Record]:
    """Of each prompt the answer that was sampled first, in the order of the records.

    What is held out is scored so: several answers to one prompt are no several prompts.
    """
    firsts: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: record.sample_index):
        firsts.setdefault(prompt_hash(record.prompt), record)
    return [record for record in records if firsts[prompt_hash(record.prompt)] is record]


def answers_to_some(records: Sequence[Record], prompts: int | None, *draw: str | int) -> list[Record]:
    """Records that answer so many of their prompts, in their order; a smaller number is part of a larger one.

    Args:
        records: any.
        prompts: how many; None: all.
        draw: what the draw is for, and its seed: another one draws others.
    """
    if prompts is None:
        return list(records)
    names = [prompt_hash(record.prompt) for record in records]
    some = set(sorted(set(names), key=lambda name: stable_hash(*draw, name))[:prompts])
    return [record for record, name in zip(records, names, strict=True) if name in some]


def parse_line(line: bytes, seen: Container[str]) -> Record:
    """One line as a record whose id is not among `seen`; raises `FieldError`."""
    record = parse_record(parse_json(line))
    if record.id in seen:
        raise FieldError("id", f"{record.id!r} occurs twice", "unique ids; without ids, unique prompts and texts")
    return record


def parse_json(line: bytes) -> Any:
    """What a line of JSON holds.

    Raises:
        FieldError: it is not JSON in UTF-8, names a key twice, or holds half a character.
    """
    try:
        # Decoded here, strictly: `json.loads` would let halves of surrogate pairs pass, which cannot be written again.
        data = json.loads(line.removeprefix(BOM).decode("utf-8"), object_pairs_hook=_once)
    except RecursionError:
        raise FieldError("(the line)", "is nested too deeply", "one JSON object per line") from None
    except FieldError:
        raise
    except ValueError as error:
        raise _not_json(line, error) from None
    if b"\\ud" in line or b"\\uD" in line:
        refuse_half_characters(data)
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's keys and values, each key once: of two, JSON would keep the last without a word."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        name = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        raise FieldError(name, "stands twice in one object", "each key once")
    return fields


def _not_json(line: bytes, error: ValueError) -> FieldError:
    fix = ""
    if line.strip() in (b"[", b"{"):
        fix = "write one object per line: jq -c '.[]' FILE > FILE.jsonl (of one list), jq -c . (of many objects)"
    return FieldError("(the line)", f"is not JSON ({error})", "one JSON object in UTF-8 per line", fix)
