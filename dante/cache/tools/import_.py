"""`import`: anyone's JSONL (the card's five fields are enough) into a verified cache with a manifest."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

from dante.cache.records.fields import FieldError
from dante.cache.records.reader import parse_line, read_lines, shard_paths
from dante.cache.records.record import Record
from dante.cache.records.writer import CacheWriter
from dante.cache.tools.output import check_new
from dante.errors import DanteError
from dante.system.files import sha256

SHOWN = 20


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("import", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help=".jsonl, .jsonl.zst, or a folder of them")
    parser.add_argument("--teacher", metavar="NAME", help="who answered (default: unknown)")
    parser.add_argument("--model", metavar="ID", help="the teacher's hub id")
    parser.add_argument("--revision", help="the teacher's hub revision")
    parser.add_argument("--licence", metavar="L", help="SPDX identifier under which the answers may be used")
    parser.add_argument("--prompts-licence", metavar="L", help="and the prompts")
    parser.add_argument("--skip-bad", action="store_true", help="leave bad lines out and count them")


def run(args: argparse.Namespace) -> int:
    """Writes the cache; 1 and nothing written when there are bad lines that are not to be skipped."""
    identity = {"name": args.teacher or "unknown", "model": args.model, "revision": args.revision}
    teacher = {**identity, "licence": args.licence, "sha256": None}
    licences = {"teacher": args.licence, "prompts": args.prompts_licence}
    manifest, bad = import_files(args.out, args.files, args.skip_bad, teacher=teacher, licences=licences)
    for line in bad:
        print(line)
    if manifest is None:
        print(f"{len(bad)} bad lines, nothing written. Fix: correct them, or leave them out with --skip-bad")
        return 1
    counts = manifest["counts"]
    print(f"{counts['records']:,} records of {counts['prompts']:,} prompts, {len(bad):,} bad lines left out")
    print(f"wrote {args.out}")
    return 0


def import_files(
    out: Path, files: Sequence[Path], skip_bad: bool, **provenance: Any
) -> tuple[dict[str, Any] | None, list[str]]:
    """Streams records into a cache; no more than a frame of them is held.

    Returns the manifest and one message per bad line (file, line, field, what is allowed). With bad lines that are not
    to be skipped nothing is kept, and the manifest is None.

    Raises:
        DanteError: no such file, or no good line at all.
    """
    check_new(out)
    paths = [path for file in files for path in shard_paths(file)]
    existed = out.is_dir()
    bad: list[str] = []
    writer = CacheWriter(out)
    try:
        writer.add(_records(paths, bad))
        sources = [{"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)} for path in paths]
        facts = {
            "decoding": None,
            "engine": None,
            "filters": [{"name": "bad_lines", "policy": "skip" if skip_bad else "error", "dropped": len(bad)}],
            "imported": sources,
            "skipped_lines": bad[:SHOWN],
        }
        if not bad or skip_bad:
            return writer.seal(**provenance, **facts), bad
        _undo(writer, out, existed)
        return None, bad
    except BaseException:
        _undo(writer, out, existed)
        raise


def _undo(writer: CacheWriter, out: Path, existed: bool) -> None:
    writer.discard()
    if not existed:
        out.rmdir()


def _records(paths: Sequence[Path], bad: list[str]) -> Iterator[Record]:
    seen: set[str] = set()
    for path in track(paths, description="importing", transient=True, disable=len(paths) < 3):
        for number, line in read_lines(path):
            try:
                record = parse_line(line, seen)
            except FieldError as error:
                bad.append(f"{path}, line {number}: {error}; allowed: {error.allowed}")
                continue
            seen.add(record.id)
            yield record
    if not seen:
        first = f" (the first: {bad[0]})" if bad else ""
        raise DanteError(f"no line is a record{first}", where=", ".join(map(str, paths)))
