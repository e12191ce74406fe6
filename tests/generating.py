"""A worker that tests may kill (`tests.warm.Started("tests.generating", [TEACHER, OUT, STORE, COUNT, ENGINE], …)`)."""

import sys
from pathlib import Path
from typing import Any

from dante.cache.generate.generated import GeneratedCache
from dante.cache.prompts.sources import PocketPrompts
from dante.run.step import Step
from dante.teachers.engines.base import Decoding
from dante.teachers.engines.ray_engine import RayEngine
from dante.teachers.engines.transformers_engine import TransformersEngine
from dante.teachers.engines.vllm_engine import VllmEngine

BATCH_REQUESTS = 6


class Telling(TransformersEngine):
    """Prints how many answers it made, batch by batch."""

    def generate(self, requests: Any, decoding: Any) -> Any:
        yield from super().generate(requests, decoding)
        print(f"made {len(requests)}", flush=True)


def engine(name: str) -> Any:
    """A small engine in float32, in which texts do not depend on batches."""
    if name == "vllm":
        return VllmEngine("float32", 512, 1, 1, 50, True, 1)
    small = TransformersEngine("float32", 3, "cpu")
    return RayEngine(small, 2, 3, 1.0, 0.0, None) if name == "ray" else Telling("float32", 3, "cpu")


def generate(teacher: Path, out: Path, store: Path, count: int, name: str, python: str | None = None) -> dict[str, Any]:
    """The cache's manifest; greedy and sampled answers, so that seeds count, too."""
    cache = GeneratedCache(
        prompts=PocketPrompts(count, 0),
        engine=engine(name),
        decoding=Decoding([0.0, 1.0], 1.0, 0, 16, 1, 20, None),
        system_prompt=None,
        chat={},
        consistency=None,
        normalise_thinking=False,
        batch_requests=BATCH_REQUESTS,
        filters={},
        heldout=3,
        validation=2,
    )
    resources = {"store": str(store), "python": python}
    return cache.build(Step("cache", "cache", {}, resources, {"teacher": teacher}, out, "", 7))


def main() -> None:
    import torch

    torch.set_num_threads(1)
    teacher, out, store, count, name, *python = sys.argv[1:]
    print("started", flush=True)
    generate(Path(teacher), Path(out), Path(store), int(count), name, *python)
    print("sealed", flush=True)
