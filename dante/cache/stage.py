"""Stage `cache`: takes a cache that exists, or lets the teacher write one."""

from typing import Any

from dante.cache.generated import GeneratedCache
from dante.cache.shipped import ShippedCache
from dante.cache.sources import DatasetPrompts, JsonlPrompts, ParquetPrompts, PocketPrompts, ReasoningGymPrompts
from dante.pipeline import Step
from dante.targets import build

__all__ = [
    "DatasetPrompts",
    "GeneratedCache",
    "JsonlPrompts",
    "ParquetPrompts",
    "PocketPrompts",
    "ReasoningGymPrompts",
    "ShippedCache",
    "run",
]


def content_identity(settings: dict[str, Any]) -> Any:
    """What the step reads from outside the run, for its fingerprint: a given cache is its content, not its path."""
    source = build(settings["source"])
    return source.identity() if isinstance(source, ShippedCache) else None


def run(step: Step) -> None:
    """Builds `settings["source"]` and lets it write shards and manifest into `step.out`."""
    step.out.mkdir(parents=True, exist_ok=True)
    build(step.settings["source"]).build(step)
