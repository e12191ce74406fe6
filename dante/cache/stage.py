"""Stage `cache`: takes a cache that exists, or lets the teacher write one."""

from typing import Any

from dante.cache.generate.generated import GeneratedCache
from dante.cache.prompts.checked import CheckedPrompts
from dante.cache.prompts.python_texts import PythonTexts
from dante.cache.prompts.sources import (
    CoderPrompts,
    DatasetPrompts,
    JsonlPrompts,
    ParquetPrompts,
    PocketPrompts,
    ReasoningGymPrompts,
)
from dante.cache.raw import RawTexts
from dante.cache.settings import Settings
from dante.cache.shipped import ShippedCache, ShippedCandidates, ShippedCoder
from dante.models.outside import named_files
from dante.run.parts import build
from dante.run.step import Step

__all__ = [
    "CheckedPrompts",
    "CoderPrompts",
    "DatasetPrompts",
    "GeneratedCache",
    "JsonlPrompts",
    "ParquetPrompts",
    "PocketPrompts",
    "PythonTexts",
    "RawTexts",
    "ReasoningGymPrompts",
    "ShippedCache",
    "ShippedCandidates",
    "ShippedCoder",
    "run",
]


def content_identity(settings: dict[str, Any]) -> Any:
    """What the step reads from outside the run, for its fingerprint: files are their content, not their path."""
    source = build(settings["source"])
    given = isinstance(source, ShippedCache)
    # Its own path is not among them: a cache directory may hold sidecars that do not belong to its content.
    files = named_files({key: node for key, node in settings["source"].items() if not given or key != "path"})
    content = source.identity() if isinstance(source, ShippedCache | RawTexts) else None
    return {"given": content, "files": files} if files else content


def run(step: Step[Settings]) -> None:
    """Builds `settings.source` and lets it write shards and manifest into `step.out`."""
    step.out.mkdir(parents=True, exist_ok=True)
    build(step.settings.source).build(step)
