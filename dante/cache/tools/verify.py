"""`verify`: every shard against its hash, every line against the schema; all problems, not the first."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import track

from dante.cache.records.fields import FieldError
from dante.cache.records.frames import REBUILD
from dante.cache.records.index_file import load_index
from dante.cache.records.manifest import FILE_NAME, Counts, load_manifest, shards_present
from dante.cache.records.reader import parse_line, read_lines
from dante.cache.shipped import POCKET
from dante.cache.split import torn_apart
from dante.errors import DanteError
from dante.system.files import sha256

CORRECT_LINE = "correct the line, or leave bad lines out: python -m dante.cache import OUT FILE --skip-bad"
IMPORT = "python -m dante.cache import OUT FILE makes a verified cache of JSONL files"


class Problem(NamedTuple):
    """One thing that is wrong, where, and what to do."""

    where: str
    what: str
    fix: str


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("verify", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=POCKET, help="default: the pocket cache")


def run(args: argparse.Namespace) -> int:
    """Prints one line per problem, then the fixes; 1 when there is any."""
    directory: Path = args.directory
    if not directory.is_dir():
        raise DanteError(f"no cache at {directory}", where=str(directory), allowed="a cache directory")
    counts = Counts()
    all_problems = list(problems(directory, counts))
    for problem in all_problems:
        print(f"{problem.where}: {problem.what}")
    for fix in dict.fromkeys(problem.fix for problem in all_problems):
        print(f"Fix: {fix}")
    if all_problems:
        print(f"{len(all_problems)} problem{'s' * (len(all_problems) > 1)} in {directory}")
        return 1
    shards = load_manifest(directory)["shards"]
    _, why = load_index(directory, shards)
    size = f"{len(shards)} shard{'s' * (len(shards) > 1)}, {counts.records:,} records"
    print(f"{directory}: {size}, all as the manifest says")
    print(f"index: {'whole' if not why else why + '; it is not used, and made again on first use'}")
    return 0


def problems(directory: Path, counts: Counts) -> Iterator[Problem]:
    """Everything that is wrong with a cache; `counts` receives its good records."""
    listed: dict[str, Any] | None = None
    manifest: dict[str, Any] = {}
    try:
        manifest = load_manifest(directory)
        listed = {shard["file"]: shard for shard in manifest["shards"]}
    except (DanteError, KeyError, TypeError) as error:
        what = error.what if isinstance(error, DanteError) else f"no list of shards ({error})"
        yield Problem(FILE_NAME, what, IMPORT)
    present, seen, sound = shards_present(directory), set[str](), True
    names = sorted(present | set(listed or ()))
    if not names:
        yield Problem(str(directory), "no shards (records-*.jsonl.zst or .jsonl)", REBUILD)
    for name in track(names, description="verifying shards", transient=True, disable=len(names) < 3):
        for problem in _shard(directory / name, name in present, listed, seen, counts):
            sound = False
            yield problem
    if sound and listed is not None:
        yield from _counts(manifest.get("counts") or {}, counts)
    if counts.torn:
        torn = torn_apart(counts.torn, str(directory))
        yield Problem(torn.where, torn.what, torn.fix)


def _shard(
    path: Path, present: bool, listed: dict[str, Any] | None, seen: set[str], counts: Counts
) -> Iterator[Problem]:
    facts = (listed or {}).get(path.name)
    if not present:
        yield Problem(path.name, "the shard is missing", REBUILD)
        return
    if listed is not None and facts is None:
        yield Problem(path.name, "the shard is not in the manifest", "remove it, or " + REBUILD)
    if facts is not None:
        yield from _bytes(path, facts)
    before, bad = counts.records, 0
    try:
        for number, line in read_lines(path):
            try:
                record = parse_line(line, seen)
            except FieldError as error:
                bad += 1
                yield Problem(
                    f"{path.name}, line {number}", f"{error}; allowed: {error.allowed}", error.fix or CORRECT_LINE
                )
                continue
            seen.add(record.id)
            counts.add(record)
    except DanteError as error:
        yield Problem(path.name, error.what, REBUILD)
        return
    record_count = counts.records - before
    if facts is not None and record_count + bad != facts["records"]:
        yield Problem(path.name, f"{record_count + bad} lines, the manifest says {facts['records']}", REBUILD)


def _bytes(path: Path, facts: dict[str, Any]) -> Iterator[Problem]:
    size, expected = path.stat().st_size, facts.get("bytes")
    if expected is not None and size != expected:
        change = f"cut by {expected - size}" if size < expected else f"longer by {size - expected}"
        yield Problem(path.name, f"{size:,} bytes, the manifest says {expected:,} ({change})", REBUILD)
    digest = sha256(path)
    if digest != facts["sha256"]:
        yield Problem(path.name, f"SHA-256 is {digest}, the manifest says {facts['sha256']}", REBUILD)


def _counts(stated: dict[str, Any], counts: Counts) -> Iterator[Problem]:
    # Manifests of earlier versions lack some counts; what they do not say cannot be wrong.
    for name, value in counts.as_dict().items():
        if name in stated and stated[name] != value:
            yield Problem(FILE_NAME, f"counts.{name} is {stated[name]}, the shards hold {value}", REBUILD)
