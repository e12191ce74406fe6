"""`python -m dante.cache sparse CACHE --teacher STEP --kind topk_tail|random_sampling`: sparse logits of a cache.

The engine's settings are typed as for a run: `--engine server engine.base_url=http://127.0.0.1:8000/v1`. Interrupted,
the same command continues: what one batch takes is lost at most.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from dante import console
from dante.cache.sparse.choice import DTYPE, choose_engine
from dante.cache.sparse.kinds import KINDS
from dante.cache.sparse.making.make import Order, make, summary
from dante.errors import DanteError
from dante.system import interrupt
from dante.system.interrupt import Interrupted

MOST = 255  # ids per token that a file can count
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
    order = Order(
        cache=arguments.directory,
        teacher=arguments.teacher,
        kind=arguments.kind,
        size=arguments.size,
        seed=arguments.seed,
        split=None if arguments.split == ALL else arguments.split,
        count=arguments.count,
        batch_records=arguments.batch,
    )
    out = arguments.out or arguments.directory
    try:
        logits = make(order, engine, {"python": arguments.python}, out, lambda line: print(line, flush=True))
    except DanteError as error:
        raise _typed(error) from None
    print("\n".join(summary(logits)))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """What is wrong with the options themselves."""
    for name, most in (("size", MOST), ("batch", None), ("count", None)):
        value = getattr(arguments, name)
        if value is not None and not 0 < value <= (most or value):
            allowed = f"1 to {most}" if most else "1 or more"
            raise DanteError(f"--{name} {value}", where=f"--{name}", allowed=allowed, fix=f"--{name} {most or 32}")


def _typed(error: DanteError) -> DanteError:
    """The error with this command's own words for what a run's configuration calls otherwise."""
    if error.where != "teacher.python":
        return error
    return DanteError(
        error.what,
        where="--python",
        fix="build an environment with vLLM, launch/vllm_cpu_env.sh .venv-vllm, and name its interpreter, "
        "--python .venv-vllm/bin/python; or --engine transformers",
    )
