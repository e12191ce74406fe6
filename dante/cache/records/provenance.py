"""Where a cache's records come from, and whether two caches come from the same place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dante.errors import DanteError

# Entries of a manifest that describe the records themselves, or what was done to them: these may differ. Everything
# else says who answered and how (teacher, tokenizer, engine, decoding, and whatever a later version adds).
NOT_PROVENANCE = (
    "schema_version",
    "counts",
    "shards",
    "generated",
    "filters",
    "licences",
    "split",
    "skipped_lines",
    "sources",
    "imported",
)


class Difference(NamedTuple):
    """One entry in which two manifests differ: dotted key, value in the first, value in the other."""

    key: str
    first: Any
    other: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.first!r} and {self.other!r}"


def differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """Every entry of the provenance in which two manifests differ, by dotted key."""
    entries: list[Difference] = []
    for key in sorted({*first, *other} - set(NOT_PROVENANCE)):
        entries += leaves_that_differ(key, first.get(key), other.get(key))
    return entries


def check_equal(manifests: Sequence[Mapping[str, Any]], names: Sequence[Path], allowed: Sequence[str]) -> set[str]:
    """Top-level keys in which caches differ as the user has allowed.

    Args:
        manifests: of the caches.
        names: their directories.
        allowed: keys that may differ, whole (`engine`) or by their parts (`engine.version`).

    Raises:
        DanteError: they differ in something else, every difference named; or an allowed key that nothing has.
    """
    accepted, refused = set[str](), list[str]()
    provenance_keys = {key for manifest in manifests for key in manifest if key not in NOT_PROVENANCE}
    for key in allowed:
        if key.split(".")[0] not in provenance_keys:
            raise DanteError(f"unknown key {key!r}", where="--allow", allowed=", ".join(sorted(provenance_keys)))
    for manifest, name in zip(manifests[1:], names[1:], strict=True):
        for difference in differences(manifests[0], manifest):
            if any(difference.key == key or difference.key.startswith(f"{key}.") for key in allowed):
                accepted.add(difference.key.split(".")[0])
            else:
                refused.append(f"{name} against {names[0]}: {difference}")
    if refused:
        keys = sorted({line.split(": ")[1].split(".")[0] for line in refused})
        raise DanteError(
            "the caches have different provenance: " + "; ".join(refused),
            where=", ".join(map(str, names)),
            fix="merge caches of one teacher and setting, or accept a difference by its name: "
            + " ".join(f"--allow {key}" for key in keys),
        )
    return accepted


def leaves_that_differ(key: str, first: Any, other: Any) -> list[Difference]:
    """Every leaf below `key` in which two plain structures differ."""
    if first in ({}, None) and other in ({}, None):  # nothing, and nothing said
        return []
    if isinstance(first, Mapping) and isinstance(other, Mapping):
        parts = sorted({*first, *other})
        return [d for part in parts for d in leaves_that_differ(f"{key}.{part}", first.get(part), other.get(part))]
    return [] if first == other else [Difference(key, first, other)]
