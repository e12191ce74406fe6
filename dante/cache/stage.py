"""Stage `cache`: takes a cache that exists, or lets the teacher write one."""

import hydra

from dante.cache.generated import GeneratedCache
from dante.cache.shipped import ShippedCache
from dante.cache.sources import JsonlPrompts, PocketPrompts
from dante.pipeline import Step

__all__ = ["GeneratedCache", "JsonlPrompts", "PocketPrompts", "ShippedCache", "run"]


def run(step: Step) -> None:
    """Instantiates `settings["source"]` and lets it write shards and manifest into `step.out`."""
    step.out.mkdir(parents=True, exist_ok=True)
    hydra.utils.instantiate(step.settings["source"]).build(step)
