"""The teacher cache: records, shards, manifest, uncertainty."""

from dante.cache.records.manifest import load_manifest, verify
from dante.cache.records.reader import read_records
from dante.cache.records.record import Record
from dante.cache.records.writer import CacheWriter

__all__ = ["CacheWriter", "Record", "load_manifest", "read_records", "verify"]
