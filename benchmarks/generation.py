"""What the lab costs around its engine: `python benchmarks/generation.py [--engine transformers|vllm] [--prompts 96]`.

The same prompts in the same batches through the bare engine (raw tokens and log-probabilities, thrown away) and through
the cache stage (rendering, entropies, offsets, store, filters, sealing), in turns in one process and with one
loaded teacher; the ratio of the medians is the overhead.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dante.cache.generate.generated import GeneratedCache
from dante.cache.generate.requests import Renderer
from dante.cache.prompts.sources import PocketPrompts
from dante.run.parts import build
from dante.run.step import Step
from dante.teachers.engines.base import Decoding
from dante.teachers.pocket import PocketTeacher
from dante.teachers.teacher import load_teacher

CONF = Path(__file__).parents[1] / "conf"


class Shared:
    """An engine that stays open between the runs: loading is not what is measured."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.keeps_answers, self.version = engine.keeps_answers, engine.version

    def open(self, *arguments: Any) -> "Shared":
        return self

    def __enter__(self) -> "Shared":
        return self

    def __exit__(self, *arguments: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def bare(engine: Any, batches: list[Any], decoding: Decoding) -> int:
    """Tokens that the engine's own loop produces, with nothing done to them."""
    from dante.teachers.engines import transformers_engine, vllm_engine

    tokens = 0

    def count(tokenizer: Any, ids: list[int], *rest: Any) -> int:
        return len(ids)

    modules = (transformers_engine, vllm_engine)
    kept = [module.to_generation for module in modules]
    for module in modules:
        module.to_generation = count  # type: ignore[assignment]
    try:
        for batch in batches:
            tokens += sum(number for _, number in engine.generate(batch, decoding))
    finally:
        for module, function in zip(modules, kept, strict=True):
            module.to_generation = function
    return tokens


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--python", default=None, help="interpreter with vLLM")
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        conf = OmegaConf.load(CONF / "teacher" / "smollm2_135m.yaml")
        PocketTeacher(conf.make.sha256).make(folder / "teacher")
        teacher = load_teacher(folder / "teacher")
        model = teacher.location(folder / "teacher")
        node = OmegaConf.to_container(OmegaConf.load(CONF / "cache" / "engine" / f"{options.engine}.yaml"))
        decoding = Decoding(0.0, 1.0, 0, options.max_new_tokens, 1, 20, None)
        prompts = PocketPrompts(options.prompts, 0)
        size = 32
        with build(node).open(model, None, {"python": options.python}, folder / "log") as opened:
            engine = Shared(opened)
            requests = [
                asked.job.request for asked in Renderer(model, None, None, 0, {}).ask(prompts.load(), [decoding])
            ]
            batches = [requests[start : start + size] for start in range(0, len(requests), size)]
            bare(engine, batches[:1], decoding)  # warm-up
            seconds: dict[str, list[float]] = {"bare": [], "lab": []}
            for turn in range(options.repeats):
                start = time.perf_counter()
                tokens = bare(engine, batches, decoding)
                seconds["bare"].append(time.perf_counter() - start)
                cache = GeneratedCache(prompts, engine, decoding, None, {}, None, False, size, {}, 8, 4)  # type: ignore[arg-type]
                out = folder / f"out{turn}"
                step = Step(
                    "cache",
                    "cache",
                    {},
                    {"store": str(folder / f"a{turn}")},
                    {"teacher": folder / "teacher"},
                    out,
                    "",
                    0,
                )
                start = time.perf_counter()
                cache.build(step)
                seconds["lab"].append(time.perf_counter() - start)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        result = {
            "engine": options.engine,
            "version": engine.version,
            "prompts": options.prompts,
            "tokens": tokens,
            "tokens_per_s": {name: round(tokens / value, 1) for name, value in medians.items()},
            "overhead": round(medians["lab"] / medians["bare"] - 1, 4),
            "seconds": {name: [round(v, 2) for v in values] for name, values in seconds.items()},
        }
        print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
