"""`python -m dante.cache logits CACHE --teacher STEP --kind topk_tail|random_sampling`: sparse logits of a cache."""

import argparse
import sys
from pathlib import Path
from typing import Any

from dante.cache.asked import asked_with
from dante.cache.generate.requests import Renderer
from dante.cache.records.manifest import FILE_NAME, load_manifest
from dante.cache.records.reader import read_records
from dante.cache.records.record import stable_hash
from dante.cache.sparse.build import build
from dante.cache.sparse.kinds import KINDS
from dante.cache.sparse.sidecar import Header
from dante.errors import DanteError
from dante.teachers.engines.transformers_engine import TransformersEngine
from dante.teachers.teacher import load_teacher
from dante.text.chat import ChatRenderer


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("logits", help="sparse teacher logits beside a cache", description=__doc__)
    parser.add_argument("directory", type=Path, help="the cache")
    parser.add_argument("--teacher", type=Path, required=True, help="a finished teacher step: runs/<run>/teacher")
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--size", type=int, default=50, help="K of topk_tail, draws of random_sampling")
    parser.add_argument("--count", type=int, default=None, help="training records, chosen by a stable hash (all)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--dtype", default="float32", help="of the teacher while it scores")
    parser.add_argument("--out", type=Path, default=None, help="where the files go (beside the cache)")


def run(arguments: argparse.Namespace) -> int:
    """Prints records, tokens and bytes per token; 1 when something is wrong with the input."""
    try:
        return _run(arguments)
    except DanteError as error:
        print(error, file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    if not 0 < arguments.size <= 255:
        raise DanteError(f"--size {arguments.size}", where="--size", allowed="1 to 255")
    teacher = load_teacher(arguments.teacher)
    identity = teacher.sha256 or f"{teacher.model}@{teacher.revision}"
    if (arguments.directory / FILE_NAME).is_file():
        written = (load_manifest(arguments.directory).get("teacher") or {}).get("sha256")
        if written and written != teacher.sha256:
            raise DanteError(
                f"the cache was written by {written[:12]}…, this teacher is {str(teacher.sha256)[:12]}…",
                where=str(arguments.teacher),
                fix="name the cache's own teacher",
            )
    records = sorted(read_records(arguments.directory, "train"), key=lambda record: stable_hash(record.id))
    model = teacher.location(arguments.teacher)
    rendering = Renderer(model, teacher.revision, None, 0, asked_with(arguments.directory) or {})
    out = arguments.out or arguments.directory
    out.mkdir(parents=True, exist_ok=True)
    engine = TransformersEngine(arguments.dtype, 1, None)
    with engine.open(model, teacher.revision, {}, out / "worker.log"):
        header = Header(
            kind=arguments.kind,
            size=arguments.size,
            vocabulary=engine.vocabulary,
            teacher=identity,
            tokenizer=stable_hash(rendering.identity()),
            seed=arguments.seed if arguments.kind == "random_sampling" else 0,
        )
        logits = build(
            records[: arguments.count], header, engine, ChatRenderer(rendering.tokenizer, **rendering.chat), out
        )
    print(f"records          {len(logits)}\ntokens           {logits.tokens}")
    print(f"bytes per token  {logits.bytes_per_token:.1f} at a vocabulary of {header.vocabulary:,}")
    for path in logits.paths:
        print(f"wrote {path}")
    return 0
