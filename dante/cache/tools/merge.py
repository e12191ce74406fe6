"""`merge`: several caches into one, if the same teacher answered in the same way.

A prompt stays on one side of the split; a record that several caches hold is kept once. `difficulty_score` holds a rank
over the whole cache, so it is computed again wherever self-consistency was measured.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dante.cache.generate.difficulty import with_difficulty
from dante.cache.records.manifest import FILE_NAME, load_manifest, verify
from dante.cache.records.provenance import check_equal
from dante.cache.records.reader import read_records
from dante.cache.records.record import Record, prompt_hash
from dante.cache.records.writer import CacheWriter
from dante.cache.split import split_by_prompt
from dante.cache.tools.output import check_new
from dante.errors import DanteError
from dante.system.files import sha256

# Not part of what a teacher said: two caches may have put a record on different sides or ranked it otherwise.
OWN_TO_A_CACHE = ("split", "difficulty_score")
SHOWN = 10


def add_parser(subparsers: Any) -> None:
    parser: argparse.ArgumentParser = subparsers.add_parser("merge", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder")
    parser.add_argument("caches", type=Path, nargs="+", metavar="CACHE")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="KEY",
        help="accept that the caches differ in this key (teacher, engine, engine.version, decoding, …); repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--resplit", action="store_true", help="forget the caches' splits and draw new ones of the same sizes"
    )
    parser.add_argument("--seed", type=int, default=42, help="of the new split (default: 42)")


def run(args: argparse.Namespace) -> int:
    """Writes the merged cache and prints where it is."""
    manifest = merge(args.out, args.caches, args.allow, args.resplit, args.seed)
    for source in manifest["sources"]:
        print(f"{source['name']}: {source['records']:,} records, {source['already_there']:,} of them already there")
    if any(path.suffix == ".safetensors" for cache in args.caches for path in cache.iterdir()):
        print("sidecars with teacher logits are not merged; make them again for the merged cache")
    counts = manifest["counts"]
    sides = ", ".join(f"{counts[side]:,} {side}" for side in ("train", "heldout", "validation"))
    print(f"{counts['records']:,} records: {sides}")
    print(f"wrote {args.out}")
    return 0


def merge(out: Path, caches: Sequence[Path], allow: Sequence[str], resplit: bool, seed: int) -> dict[str, Any]:
    """Writes the records of `caches`, in their order, into `out` and returns its manifest.

    Raises:
        DanteError: a damaged cache; different provenance that is not allowed; one id with two contents; a prompt on
            two sides of the split (unless `resplit`).
    """
    check_new(out)
    if len({cache.resolve() for cache in caches}) < len(caches) or len(caches) < 2:
        raise DanteError("a merge needs different caches", where="CACHE …", allowed="two or more directories")
    for cache in caches:
        verify(cache)
    manifests = [load_manifest(cache) for cache in caches]
    differing = check_equal(manifests, caches, allow)
    records: dict[str, Record] = {}
    origin: dict[str, Path] = {}
    sides: dict[str, set[str]] = {}
    sources = []
    for cache, manifest in zip(caches, manifests, strict=True):
        cache_records = read_records(cache)
        before = len(records)
        for record in cache_records:
            sides.setdefault(prompt_hash(record.prompt), set()).add(record.split or "train")
            earlier_record = records.get(record.id)
            if earlier_record is None:
                records[record.id], origin[record.id] = record, cache
            elif changed := _changed(earlier_record, record):
                raise DanteError(
                    f"record {record.id} differs in {', '.join(changed)}",
                    where=f"{origin[record.id]} and {cache}",
                    fix="these caches answer one request in two ways: leave one of them out",
                )
            else:
                records[record.id] = replace(earlier_record, split=earlier_record.split or record.split)
        sources.append(_source(cache, manifest, len(cache_records), len(cache_records) - (len(records) - before)))
    kept = list(records.values())
    if resplit:
        kept = _resplit(kept, sides, seed)
    else:
        _check_sides(kept, sides)
    provenance = {key: None if key in differing else value for key, value in _kept(manifests[0]).items()}
    if "teacher" in differing:
        names = dict.fromkeys(str((m.get("teacher") or {}).get("name", "unknown")) for m in manifests)
        provenance["teacher"] = {"name": " + ".join(names), "sha256": None}
    provenance["split"] = {"merged": True, "drawn_again": resplit, "seed": seed if resplit else None}
    provenance["licences"] = _licences(manifests)
    with CacheWriter(out) as writer:
        return writer.add(with_difficulty(kept)).seal(**provenance, sources=sources)


def _kept(manifest: dict[str, Any]) -> dict[str, Any]:
    # What was filtered and how much was generated belongs to each source, and is listed there.
    own_keys = ("schema_version", "counts", "shards", "sources", "generated", "filters", "skipped_lines", "imported")
    return {key: value for key, value in manifest.items() if key not in own_keys}


def _source(cache: Path, manifest: dict[str, Any], records: int, already_there: int) -> dict[str, Any]:
    entries = {key: value for key, value in manifest.items() if key not in ("schema_version", "shards", "counts")}
    identity = {"name": cache.resolve().name, "manifest_sha256": sha256(cache / FILE_NAME)}
    return {**identity, "records": records, "already_there": already_there, **entries}


def _licences(manifests: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Every licence that applies, by what it covers."""
    licences: dict[str, list[str]] = {}
    for manifest in manifests:
        for part, licence in (manifest.get("licences") or {}).items():
            if licence and licence not in licences.setdefault(part, []):
                licences[part].append(licence)
    return {part: " and ".join(names) for part, names in licences.items()}


def _changed(record: Record, other: Record) -> list[str]:
    first, second = asdict(record), asdict(other)
    return [name for name in first if name not in OWN_TO_A_CACHE and first[name] != second[name]]


def _check_sides(records: list[Record], sides: dict[str, set[str]]) -> None:
    conflicts = [(r.id, sorted(prompt_sides)) for r in records if len(prompt_sides := sides[prompt_hash(r.prompt)]) > 1]
    if conflicts:
        named = ", ".join(f"{identity} ({', '.join(prompt_sides)})" for identity, prompt_sides in conflicts[:SHOWN])
        more = f" and {len(conflicts) - SHOWN} more" if len(conflicts) > SHOWN else ""
        raise DanteError(
            f"{len(conflicts)} records have prompts that are on two sides of the split: {named}{more}",
            fix="draw the split again over all prompts: --resplit",
        )


def _resplit(records: list[Record], sides: dict[str, set[str]], seed: int) -> list[Record]:
    """As many prompts held out as there were, drawn again over all prompts."""
    heldout = sum("heldout" in prompt_sides for prompt_sides in sides.values())
    validation = sum("validation" in prompt_sides and "heldout" not in prompt_sides for prompt_sides in sides.values())
    cleared = [replace(record, split=None) for record in records]
    return split_by_prompt(cleared, heldout, validation, seed)
