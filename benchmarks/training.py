"""Our training against TRL's SFTTrainer and HF's Trainer: `python benchmarks/training.py [--repeats 5]`.

Every system trains the same model on the same records in a process of its own, one block of records at a time and in
turns: no process is busy while another is measured. Before each round the bare matrix products of the same step are
timed (see gemm.py). What comes out is a Markdown table of medians with ranges, and a JSON file with every block.

    python benchmarks/training.py --repeats 5 --fill benchmarks/README.md     measure, and put the table into the README
    python benchmarks/training.py --student 20x384 --systems ours_ce,ours_rs,ours_live_4x    distillation, training_kd
    python benchmarks/training.py --from training.json --fill benchmarks/README.md     the table of a run that was kept

The peers need the extra `bench` (`pip install -c constraints.txt -e .[bench]`); without it only our side runs.
"""

import argparse
import json
import os
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gemm import DTYPES, SQUARE, rate, skeleton, square, step_products
from measuring import GIB, fill, installed, machine, spread
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from training_child import DISTILS, LIVE, SYSTEMS
from training_job import Job
from training_kd import kept_logits, sizes, student, teacher
from training_table import markdown
from turns import Player

from dante.cache import CacheWriter, read_records
from dante.cache.shipped import POCKET
from dante.cost.compute import model_flops
from dante.run.precision import decide
from dante.teachers.pocket import PocketTeacher

HERE = Path(__file__).resolve().parent
DEFAULT = ("trl_packing", "trl_tuned", "trl_padded", "hf_padded", "ours_ce", "ours_dante")
# Two systems that train on the same tokens from the same weights differ by the rounding of bf16 alone.
SAME_LOSS = 0.01


def main() -> int:
    options = _parser().parse_args()
    if options.source:
        result = json.loads(options.source.read_text())
    else:
        with tempfile.TemporaryDirectory(prefix="training-") as scratch:
            result = measure(options, Path(scratch))
        options.out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {options.out}", file=sys.stderr)
    table = markdown(result)
    print(table)
    if options.fill:
        fill(options.fill, "distillation" if result["distillation"] else "training", table)
        print(f"filled: {options.fill}", file=sys.stderr)
    return 0


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """All rounds; raises `RuntimeError` when a system did not train on the same tokens as the others."""
    options.precision = options.precision or decide("cpu").value
    names = _systems(options.systems, options.precision)
    model = options.model or pocket_teacher(scratch)
    cache = scratch / "cache"
    choose_records(cache, options.records)
    facts = machine(options.threads, ("transformers", "trl", "accelerate", "lightning"))
    torch.set_num_threads(options.threads)
    distilled = set(names) & set(DISTILS)
    kept = kept_logits(scratch / "kept", cache, model, options.threads) if distilled else {}
    if options.student:
        model = student(scratch / "student", model, *options.student)
    distillation: dict[str, Any] = {}
    if distilled:
        made = {name: teacher(scratch / f"{times}x", model, times) for name, times in LIVE.items() if name in names}
        distillation = {"kept": kept, "teachers": made}
    with ExitStack() as stack:
        progress = stack.enter_context(_progress())
        task = progress.add_task("", total=len(names) * (options.repeats + 2))
        players, ready = {}, {}
        for name in names:
            progress.update(task, description=f"{name}: loading")
            job = Job(
                model=str(model),
                cache=str(cache),
                out=str(scratch / name),
                records=options.records,
                blocks=options.repeats + 1,
                rows=options.rows,
                max_tokens=options.max_tokens,
                threads=options.threads,
                precision=options.precision,
                overrides=tuple(options.ours),
                distillation=str(scratch),
            )
            Path(job.out).mkdir()
            job.write(scratch / name / "job.json")
            command = [sys.executable, str(HERE / "training_child.py"), name, str(scratch / name / "job.json")]
            players[name] = Player(command, {"OMP_NUM_THREADS": str(options.threads)}, scratch / name / "log")
            stack.callback(players[name].close)
            ready[name] = players[name].hear()
            progress.advance(task)
        blocks: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        gemm: dict[str, list[float]] = {}
        for turn in range(options.repeats + 1):
            if turn:
                progress.update(task, description="bare matrix products")
                _products(gemm, model, blocks[names[0]][0], options)
            for name in names:
                progress.update(task, description=f"{name}: {f'block {turn}' if turn else 'warm-up'}")
                block = players[name].turn()
                blocks[name].append(block)
                rate_now = block["supervised_tokens"] / block["seconds"]
                progress.console.print(
                    f"{name:<12} {f'block {turn}' if turn else 'warm-up'}: {rate_now:6.1f} supervised tokens/s, "
                    f"peak {block['peak_bytes'] / GIB:.2f} GiB"
                )
                progress.advance(task)
            _check_same_work(blocks)
    return _result(options, facts, model, ready, blocks, gemm, distillation)


def _products(gemm: dict[str, list[float]], model: Any, block: dict[str, Any], options: argparse.Namespace) -> None:
    """One measurement of every rate, at the shapes of an average step of the records."""
    steps = options.records / options.rows
    shapes = step_products(skeleton(model), round(block["tokens"] / steps), round(block["supervised_tokens"] / steps))
    name = options.precision  # the other one may be emulated, for minutes
    for what, products in ((f"square {options.gemm_size}", square(options.gemm_size)), ("step", shapes)):
        gemm.setdefault(f"{name} {what}", []).append(rate(products, DTYPES[name]))


def _check_same_work(blocks: dict[str, list[dict[str, Any]]]) -> None:
    """The last block of every system had the same tokens, supervised tokens and loss."""
    last = {name: found[-1] for name, found in blocks.items()}
    for key in ("tokens", "supervised_tokens"):
        counts = {name: block[key] for name, block in last.items()}
        if len(set(counts.values())) > 1:
            raise RuntimeError(f"systems did not train on the same {key}: {counts}")
    losses = {name: block["loss_nats"] for name, block in last.items()}
    if max(losses.values()) - min(losses.values()) > SAME_LOSS * min(losses.values()):
        raise RuntimeError(f"systems did not have the same loss at the same weights: {losses}")


def _result(
    options: argparse.Namespace,
    facts: dict[str, Any],
    model: Any,
    ready: Any,
    blocks: Any,
    gemm: Any,
    distillation: dict[str, Any],
) -> dict[str, Any]:
    size = sizes(model)
    systems = {}
    for name, found in blocks.items():
        beside = distillation.get("teachers", {}).get(name)
        measured = found[1:]
        state_bytes = 16 * ready[name]["parameters"]  # fp32 weight, gradient and two moments
        systems[name] = {
            "supervised_tokens_per_s": spread([b["supervised_tokens"] / b["seconds"] for b in measured]),
            "tokens_per_s": spread([b["tokens"] / b["seconds"] for b in measured]),
            "s_per_step": spread([b["seconds"] / b["steps"] for b in measured]),
            "peak_bytes": spread([b["peak_bytes"] for b in measured]),
            "beyond_bytes": spread([b["peak_bytes"] - state_bytes - ready[name]["baseline_bytes"] for b in measured]),
            "flops_per_s": spread([_flops(size, beside, b) / b["seconds"] for b in measured]),
            "others_cores": spread([b["others_cores"] for b in measured]),
            "start": ready[name],
            "blocks": found,
        }
    keys = ("repeats", "records", "rows", "max_tokens", "threads", "precision", "ours", "student")
    return {
        "command": _command(options),
        "settings": {key: getattr(options, key) for key in keys},
        "machine": {**facts, "load_after": round(os.getloadavg()[0], 2)},
        "parameters": {"body": size["body"], "head": size["head"]},
        "distillation": distillation,
        "gemm_flops_per_s": {name: spread(rates) for name, rates in gemm.items()},
        "systems": systems,
    }


def _flops(size: dict[str, int], beside: dict[str, int] | None, block: dict[str, Any]) -> float:
    """Useful work of a block; a teacher beside the student runs forward alone, a third of a step of its size."""
    tokens = block["tokens"], block["supervised_tokens"]
    teacher_flops = model_flops(beside["body"], beside["head"], *tokens) / 3 if beside else 0.0
    return model_flops(size["body"], size["head"], *tokens) + teacher_flops


def _command(options: argparse.Namespace) -> str:
    """What to type to repeat the run; only what differs from the defaults, and no paths of this machine."""
    words = ["python benchmarks/training.py"]
    if options.model:
        words.append("--model FOLDER")
    if options.student:
        words.append("--student {}x{}".format(*options.student))
    for name in ("repeats", "threads", "records", "rows", "max_tokens", "precision", "systems", "gemm_size", "ours"):
        value, flag = getattr(options, name), "--" + name.replace("_", "-")
        if value != _parser().get_default(name) or name in ("repeats", "threads"):
            words.append(f"{flag} {' '.join(value) if isinstance(value, list) else value}")
    return " ".join(words)


def _systems(asked: str, precision: str) -> list[str]:
    names = asked.split(",")
    if "trl_tuned" in names and precision != "bf16":
        # What it switches on rounds the operands of fp32 products, which in fp32 is another computation.
        print("left out, it computes in bf16 and this run in fp32: trl_tuned", file=sys.stderr)
        names.remove("trl_tuned")
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown:
        raise SystemExit(f"unknown: {', '.join(unknown)}; known are {', '.join(SYSTEMS)}")
    missing = [name for name in names if SYSTEMS[name][0] == "training_peers" and not installed("trl")]
    if missing:
        print(f"left out, trl is not installed: {', '.join(missing)}", file=sys.stderr)
    return [name for name in names if name not in missing]


def pocket_teacher(scratch: Path) -> Path:
    conf = OmegaConf.load(HERE.parent / "conf" / "teacher" / "smollm2_135m.yaml")
    PocketTeacher(conf.make.sha256).make(scratch / "teacher")
    return scratch / "teacher" / "model"


def choose_records(cache: Path, count: int) -> None:
    """A cache of `count` records, drawn at random from the shipped one and always the same."""
    records = random.Random(0).sample(read_records(POCKET), count)
    CacheWriter(cache).add([replace(record, split="train") for record in records]).seal(teacher=None)


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress


def _shape(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}; layers and width are wanted, such as 20x384")
    return int(found[1]), int(found[2])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="Hugging Face folder; default: the pocket teacher, made on the spot")
    parser.add_argument(
        "--student",
        type=_shape,
        metavar="LAYERSxWIDTH",
        help="train a llama of this shape, weights random, in its place",
    )
    parser.add_argument("--repeats", type=int, default=5, help="measured blocks per system, after one warm-up")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each process")
    parser.add_argument("--precision", choices=tuple(DTYPES), help="default: what trainer.precision=auto is here")
    parser.add_argument("--records", type=int, default=64, help="records of a block; a multiple of --rows")
    parser.add_argument("--rows", type=int, default=8, help="records of an optimizer step, where records are counted")
    parser.add_argument("--max-tokens", type=int, default=1024, help="longest pack")
    parser.add_argument("--systems", default=",".join(DEFAULT), help=f"of {', '.join(SYSTEMS)}")
    parser.add_argument("--ours", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of our config")
    parser.add_argument("--gemm-size", type=int, default=SQUARE, help="of the square product")
    parser.add_argument("--out", type=Path, default=Path("training.json"), help="where the JSON goes")
    parser.add_argument("--fill", type=Path, help="Markdown file with <!-- training --> markers to put the table into")
    parser.add_argument("--from", dest="source", type=Path, help="do not measure: take this JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
