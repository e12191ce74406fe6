"""Rebuilds the pocket cache: SmolLM2-135M-Instruct answers our own prompts in real vLLM.

    python -m dante.cache.build_pocket --python .venv-vllm/bin/python --work build/pocket_cache

The same command continues after an interruption. `launch/pocket_cache.sh` also builds vLLM's environment.
"""

import argparse
import shutil
import sys
from pathlib import Path

from dante.cache.generated import GeneratedCache
from dante.cache.manifest import FILE_NAME
from dante.cache.reader import read_records
from dante.cache.shipped import POCKET
from dante.cache.sources import PocketPrompts
from dante.cache.statistics import summary_lines
from dante.errors import DanteError
from dante.pipeline import Step
from dante.teachers.engine import Decoding
from dante.teachers.handle import FILE_NAME as TEACHER_FILE
from dante.teachers.pocket import PocketTeacher
from dante.teachers.repetition import RepetitionLimit
from dante.teachers.vllm_engine import VllmEngine

GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SEED = 42
HELDOUT_PROMPTS = 240

# Greedy and 512 new tokens: DANTE-Mosaic-3.5B card [C]. A 135 M model often falls into a loop under greedy decoding;
# such an answer is of no use and would run to the limit, so it ends after five repetitions and is dropped [I].
DECODING = Decoding(
    temperature=0.0,
    top_p=1.0,
    top_k=0,
    max_new_tokens=512,
    samples=1,
    logprobs=20,
    repetition=RepetitionLimit(min_tokens=3, max_tokens=40, count=5),
)


def main() -> int:
    """Makes the teacher and the cache under `--work`, then copies the sealed cache to `--out`."""
    parser = argparse.ArgumentParser(prog="python -m dante.cache.build_pocket", description=__doc__)
    parser.add_argument("--python", required=True, help="interpreter of the environment that has vLLM")
    parser.add_argument("--work", type=Path, required=True, help="folder for the teacher and for finished batches")
    parser.add_argument("--out", type=Path, default=POCKET, help="where the cache goes (default: inside the package)")
    parser.add_argument("--count", type=int, default=None, help="prompts (default: all)")
    parser.add_argument("--heldout", type=int, default=HELDOUT_PROMPTS, help="prompts to hold out")
    arguments = parser.parse_args()
    try:
        build(arguments.python, arguments.work, arguments.out, arguments.count, arguments.heldout)
    except DanteError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(summary_lines(read_records(arguments.out))))
    print(f"written: {arguments.out}")
    return 0


def build(python: str, work: Path, out: Path, count: int | None, heldout: int) -> None:
    """Runs both steps without the pipeline, so that the cache can be rebuilt from the package alone."""
    teacher, cache = work / "teacher", work / "cache"
    if not (teacher / TEACHER_FILE).is_file():
        PocketTeacher(GGUF_SHA256).make(teacher)
    engine = VllmEngine(
        dtype="bfloat16", max_model_len=1024, tensor_parallel_size=1, enforce_eager=True, cpu_kv_cache_gib=2
    )
    source = GeneratedCache(
        prompts=PocketPrompts(count, seed=0),
        engine=engine,
        decoding=DECODING,
        batch_requests=256,
        heldout=heldout,
        drop_truncated=True,
        drop_wrong_language=True,
    )
    source.build(
        Step(
            label="cache",
            stage="cache",
            settings={},
            resources={"python": python},
            inputs={"teacher": teacher},
            out=cache,
            fingerprint="",
            seed=SEED,
        )
    )
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("records-*.jsonl*"), *out.glob(FILE_NAME)):
        old.unlink()
    for path in (*sorted(cache.glob("records-*.jsonl.zst")), cache / FILE_NAME):
        shutil.copyfile(path, out / path.name)


if __name__ == "__main__":
    sys.exit(main())
