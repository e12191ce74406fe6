"""The teacher cache: records, shards, manifest, uncertainty."""

from dante.cache.manifest import load_manifest, verify
from dante.cache.reader import read_records
from dante.cache.record import Record
from dante.cache.writer import CacheWriter

__all__ = ["CacheWriter", "Record", "load_manifest", "read_records", "verify"]
