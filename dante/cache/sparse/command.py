"""`python -m dante.cache sparse CACHE --teacher STEP --kind topk_tail|random_sampling`: sparse logits of a cache.

The engine's settings are typed as for a run: `--engine server engine.base_url=http://127.0.0.1:8000/v1`. Interrupted,
the same command continues: what one batch takes is lost at most.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dante import console
from dante.cache.asked import asked_with
from dante.cache.generate.requests import Renderer
from dante.cache.records.manifest import FILE_NAME, load_manifest
from dante.cache.records.reader import read_records
from dante.cache.records.record import Record, stable_hash
from dante.cache.sparse.build import build
from dante.cache.sparse.choice import DTYPE, choose_engine
from dante.cache.sparse.files import Header
from dante.cache.sparse.kinds import KINDS
from dante.cache.sparse.measure import refuse_unable, texts_of
from dante.cache.sparse.progress import Bar
from dante.cache.sparse.sidecar import SparseLogits
from dante.cache.sparse.store import Store, opened
from dante.errors import DanteError
from dante.models.pretrained import Source, read_config
from dante.system import interrupt
from dante.system.interrupt import Interrupted
from dante.teachers.engines.base import Engine
from dante.teachers.teacher import SOURCE, Teacher, load_teacher
from dante.text.chat import ChatRenderer

MOST = 255  # ids per token that a file can count
SAMPLE = 64  # records from which tokens are estimated
SPLITS = ("train", "validation", "heldout")
ALL = "all"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "sparse", help="sparse teacher logits beside a cache", usage="%(prog)s CACHE [options] [engine.KEY=VALUE …]",
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(overrides=[])
    parser.add_argument("directory", type=Path, help="the cache")
    parser.add_argument("--teacher", type=Path, required=True, help="a finished teacher step: runs/<run>/teacher")
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--size", type=int, default=50, help="K of topk_tail, draws of random_sampling (50)")
    parser.add_argument("--split", choices=(*SPLITS, ALL), default="train", help="which records (train)")
    parser.add_argument("--count", type=int, default=None, help="as many of them, chosen by a stable hash (all)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    parser.add_argument(
        "--engine", default="transformers", metavar="NAME",
        help=f"a file of conf/engine/ (transformers); engine.dtype=auto is {DTYPE} here",
    )  # fmt: skip
    parser.add_argument("--python", default=None, help="interpreter that has vLLM, for --engine vllm (this one)")
    parser.add_argument("--batch", type=int, default=32, help="records per batch: what is lost at most (32)")
    parser.add_argument("--out", type=Path, default=None, help="where the files go (beside the cache)")


def run(arguments: argparse.Namespace) -> int:
    """Makes what is missing and prints records, tokens and bytes per token; 1 when the input is wrong."""
    try:
        with interrupt.handled(console.note):
            return _run(arguments)
    except Interrupted as stop:
        console.note(str(stop))
        return stop.exit_code
    except DanteError as error:
        print(error, file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    console.quiet_libraries()
    engine = choose_engine(arguments.engine, arguments.overrides)
    teacher = load_teacher(arguments.teacher)
    _refuse_another_teacher(arguments, teacher)
    records = read_records(arguments.directory, None if arguments.split == ALL else arguments.split)
    wanted = sorted(records, key=lambda record: stable_hash(record.id))[: arguments.count]
    model = teacher.location(arguments.teacher)
    rendering = Renderer(model, teacher.revision, None, 0, asked_with(arguments.directory) or {})
    renderer = ChatRenderer(rendering.tokenizer, **rendering.chat)
    header = Header(
        kind=arguments.kind,
        size=arguments.size,
        vocabulary=_vocabulary(engine, model, teacher.revision),
        teacher=teacher.sha256 or f"{teacher.model}@{teacher.revision}",
        tokenizer=stable_hash(rendering.identity()),
        seed=arguments.seed if arguments.kind == "random_sampling" else 0,
    )
    refuse_unable(engine, header)
    out = arguments.out or arguments.directory
    with opened(out, header, wanted) as store:
        print(_plan(store, wanted, renderer, engine, arguments.batch), flush=True)
        if store.missing:
            log = store.partial / "engine.log"
            with (
                _started(engine, model, teacher.revision, {"python": arguments.python}, log),
                Bar(header.kind, len(wanted), len(wanted) - len(store.missing)) as bar,
            ):
                build(store, wanted, engine, renderer, arguments.batch, bar)
        store.finish()
    _summary(SparseLogits(out, header.kind))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """What is wrong with the options themselves."""
    for name, most in (("size", MOST), ("batch", None), ("count", None)):
        value = getattr(arguments, name)
        if value is not None and not 0 < value <= (most or value):
            allowed = f"1 to {most}" if most else "1 or more"
            raise DanteError(f"--{name} {value}", where=f"--{name}", allowed=allowed, fix=f"--{name} {most or 32}")


def _refuse_another_teacher(arguments: argparse.Namespace, teacher: Teacher) -> None:
    if not (arguments.directory / FILE_NAME).is_file():
        return
    written = (load_manifest(arguments.directory).get("teacher") or {}).get("sha256")
    if written and written != teacher.sha256:
        raise DanteError(
            f"the cache was written by {written[:12]}…, this teacher is {str(teacher.sha256)[:12]}…",
            where=str(arguments.teacher),
            fix="name the cache's own teacher",
        )


def _vocabulary(engine: Engine, model: str, revision: str | None) -> int:
    """V: as the engine was told, else as the teacher's config says."""
    told: int | None = getattr(engine, "vocabulary", None)
    return told or int(read_config(Source(model, SOURCE, revision)).get_text_config().vocab_size)


def _started(engine: Engine, model: str, revision: str | None, resources: dict[str, Any], log: Path) -> Engine:
    try:
        return engine.open(model, revision, resources, log)
    except DanteError as error:
        if error.where != "teacher.python":
            raise
        raise DanteError(
            error.what,
            where="--python",
            fix="build an environment with vLLM, launch/vllm_cpu_env.sh .venv-vllm, and name its interpreter, "
            "--python .venv-vllm/bin/python; or --engine transformers",
        ) from None


def _plan(store: Store, wanted: Sequence[Record], renderer: ChatRenderer, engine: Engine, batch: int) -> str:
    """One line before the work."""
    header, there = store.header, len(wanted) - len(store.missing)
    if not store.missing:
        return f"plan             nothing to do: all {there} records have {header.kind} logits"
    sample = store.missing[:SAMPLE]
    tokens = round(sum(text.tokens for text in texts_of(sample, renderer)) / len(sample) * len(store.missing))
    density = header.codec().expected_bytes()
    settings = engine.settings()
    return (
        f"plan             {len(store.missing)} of {len(wanted)} records to go, {there} are there; about {tokens:,} "
        f"tokens, {tokens * density / 1e6:,.2f} MB at {density} bytes per token; batches of {batch}; engine "
        f"{settings['name']}{' ' + settings['dtype'] if 'dtype' in settings else ''}"
    )


def _summary(logits: SparseLogits) -> None:
    print(f"records          {len(logits)}\ntokens           {logits.tokens}")
    print(f"bytes per token  {logits.bytes_per_token:.1f} at a vocabulary of {logits.header.vocabulary:,}")
    for path in logits.paths[:2]:
        print(f"wrote {path}")
    if len(logits.paths) > 2:
        print(f"… and {len(logits.paths) - 2} more, the last is {logits.paths[-1]}")
