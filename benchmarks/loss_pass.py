"""The loss over the vocabulary alone, ways to it in turns: time, bytes kept for backward, peak memory.

    python benchmarks/loss_pass.py                                    8,192 tokens × 2,048 × 128,256, three repetitions
    python benchmarks/loss_pass.py --tokens 1024 --hidden 576 --vocab 49152
    python benchmarks/loss_pass.py --sweep --plot benchmarks/loss_pass.png     32 k to 262 k entries, as a picture
    python benchmarks/loss_pass.py --device cuda --ways gemm,ours,naive,torch,trl,liger,cut
    python benchmarks/loss_pass.py --teacher-hidden 2048              the forward KL from a live teacher in place of CE

`gemm` is the yardstick: the three matrix products of the LM head alone (logits, gradient of the hidden states, gradient
of the weight; with a teacher that of its logits, too), operands and results in the precision's dtype (on a CPU that
emulates bf16: MKL's, with fp32 results). A way that is not installed, that needs a GPU, whose bf16 products would be
emulated (1 GFLOP/s instead of 60), or whose logits would not fit into memory is left out, and that is said.
"""

import argparse
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from loss_pass_child import NAMES, Job
from loss_pass_table import kl_table, markdown, plot, sweep_table
from measuring import available_bytes, fill, installed, machine, spread
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from turns import Player

from dante.run.precision import is_emulated

HERE = Path(__file__).resolve().parent
NEEDS = {"trl": "trl", "trl_kl": "trl", "liger": "liger-kernel", "cut": "cut-cross-entropy"}
NEEDS_CUDA = ("liger", "cut")
# Their products are torch's.
TORCH_PRODUCTS = ("naive", "torch", "trl", "naive_kl", "trl_kl")
# Whole logits in the worst moment: in bf16, their log-softmax in fp32, and its gradient; with a teacher both models'
# logits and log-softmax, or later three gradients beside the two log-softmax.
NAIVE_BYTES_PER_LOGIT = {"naive": 10, "naive_kl": 20}
DEFAULT_WAYS = ("gemm", "ours", "naive", "torch", "trl")
DEFAULT_WAYS_KL = ("gemm", "ours_kl", "naive_kl", "trl_kl")
SAME = 0.02
SWEEP = (32_000, 64_000, 96_000, 128_256, 192_000, 262_144)
SWEEP_SIZE = {"tokens": 1024, "hidden": 1024}
FULL_SIZE = {"tokens": 8192, "hidden": 2048}


def main() -> int:
    options = _asked()
    if options.source:
        result = json.loads(options.source.read_text())
    else:
        result = measure(options)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {options.out}", file=sys.stderr)
    distils = result["settings"].get("teacher_hidden") is not None
    table = sweep_table(result) if result["sweep"] else kl_table(result) if distils else markdown(result)
    print(table)
    if options.plot:
        options.plot.write_bytes(plot(result))
        print(f"drawn: {options.plot}", file=sys.stderr)
    if options.fill:
        fill(options.fill, "loss sweep" if result["sweep"] else "loss kl" if distils else "loss pass", table)
        print(f"filled: {options.fill}", file=sys.stderr)
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All ways at all sizes; raises `RuntimeError` when two ways do not have the same loss or gradients."""
    size = SWEEP_SIZE if options.sweep is not None else FULL_SIZE
    tokens, hidden = options.tokens or size["tokens"], options.hidden or size["hidden"]
    vocabs = options.sweep or list(SWEEP) if options.sweep is not None else [options.vocab]
    facts = machine(options.threads, ("trl", "liger-kernel", "cut-cross-entropy", "triton"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    runs = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(vocabs) * len(options.ways) * (options.repeats + options.warm_ups))
        for vocab in vocabs:
            sizes = tokens, hidden, vocab
            job = Job(*sizes, options.device, options.precision, options.threads, options.teacher_hidden)
            runs.append(_one_size(job, options, progress, task))
    keys = ("repeats", "device", "precision", "threads", "teacher_hidden")
    return {
        "sweep": options.sweep is not None,
        "settings": {"tokens": tokens, "hidden": hidden, **{key: getattr(options, key) for key in keys}},
        "machine": {**facts, "load_after": round(os.getloadavg()[0], 2)},
        "runs": runs,
    }


def _one_size(job: Job, options: argparse.Namespace, progress: Progress, task: Any) -> dict[str, Any]:
    left_out: dict[str, str] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="loss-pass-") as name, ExitStack() as stack:
        scratch, players = Path(name), {}
        job.write(scratch / "job.json")
        for way in options.ways:
            reason = _missing(way, job, len(options.ways))
            if reason:
                left_out[way] = reason
                progress.console.print(f"{way} at {job.vocab:,} entries is left out: {reason}")
                progress.advance(task, options.repeats + options.warm_ups)
                continue
            command = [sys.executable, str(HERE / "loss_pass_child.py"), way, str(scratch / "job.json")]
            players[way] = Player(command, {"OMP_NUM_THREADS": str(job.threads)}, scratch / f"{way}.log")
            stack.callback(players[way].close)
            players[way].hear()
        for turn in range(1 - options.warm_ups, options.repeats + 1):
            for way, player in players.items():
                progress.update(task, description=f"{job.vocab:,} entries, {way}: {_turn(turn)}")
                found.setdefault(way, []).append(player.turn())
                seconds = found[way][-1]["seconds"]
                progress.console.print(f"{job.vocab:>7,} entries  {way:<6} {_turn(turn)}: {seconds:.2f} s")
                progress.advance(task)
        _check_same(found)
    ways = {
        way: {
            key: spread([r[key] for r in rows[options.warm_ups :]])
            for key in rows[0]
            if isinstance(rows[0][key], int | float)
        }
        for way, rows in found.items()
    }
    return {"vocab": job.vocab, "ways": ways, "left_out": left_out}


def _turn(number: int) -> str:
    return str(number) if number > 0 else "warm-up"


def _missing(way: str, job: Job, ways: int) -> str | None:
    """Why a way cannot run here."""
    if way in NEEDS and installed(NEEDS[way]) is None:
        return f"{NEEDS[way]} is not installed"
    if way in NEEDS_CUDA and job.device != "cuda":
        return "it needs a CUDA device"
    if way == "torch" and not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        return f"torch {torch.__version__} does not have it"
    if way in TORCH_PRODUCTS and is_emulated(job.precision, job.device):
        return "torch would emulate its bf16 products on this CPU"
    # Beside its logits: heads that other processes hold meanwhile, its own head's bf16 copy and gradient.
    heads = (ways + 2) * job.vocab * job.hidden * 4 + ways * job.vocab * (job.teacher_hidden or 0) * 4
    need = job.tokens * job.vocab * NAIVE_BYTES_PER_LOGIT.get(way, 0) + heads
    if way in NAIVE_BYTES_PER_LOGIT and need > available_bytes(job.device):
        return (
            f"{need / 2**30:.0f} GiB of memory would be needed, {job.tokens * job.vocab * 4 / 2**30:.0f} of them logits"
        )
    return None


def _check_same(found: dict[str, list[dict[str, Any]]]) -> None:
    """All ways have the same loss and gradients, up to rounding: these by their norms, and by a probe of each."""
    last = {way: rows[-1] for way, rows in found.items() if way != "gemm"}
    rows = {way: [row["loss_nats"], *row["gradient_norms"]] for way, row in last.items()}
    same = [max(values) - min(values) <= SAME * min(values) for values in zip(*rows.values(), strict=True)]
    probes = {way: row["gradient_probes"] for way, row in last.items()}
    norms = next(iter(last.values()))["gradient_norms"] if last else []
    for norm, *values in zip(norms, *probes.values(), strict=True):
        same.append(max(values) - min(values) <= SAME * norm)
    if not all(same):
        raise RuntimeError(
            f"the ways do not agree in loss, gradient of hidden states, gradient of the head: {rows}, probes {probes}"
        )


def _asked() -> argparse.Namespace:
    """The options, with the ways of the loss that is meant."""
    parser = _parser()
    options = parser.parse_args()
    distils = options.teacher_hidden is not None
    if distils and options.sweep is not None:
        parser.error("--teacher-hidden and --sweep do not go together")
    ways = options.ways or list(DEFAULT_WAYS_KL if distils else DEFAULT_WAYS)
    wrong = [way for way in ways if way != "gemm" and way.endswith("_kl") != distils]
    if wrong:
        need = "no --teacher-hidden" if distils else "--teacher-hidden D"
        parser.error(f"argument --ways: {', '.join(wrong)}: another loss, it wants {need}")
    options.ways = ways
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tokens", type=int, help=f"default: {FULL_SIZE['tokens']}, or {SWEEP_SIZE['tokens']} in a sweep"
    )
    parser.add_argument(
        "--hidden", type=int, help=f"default: {FULL_SIZE['hidden']}, or {SWEEP_SIZE['hidden']} in a sweep"
    )
    parser.add_argument("--vocab", type=int, default=128_256)
    parser.add_argument(
        "--sweep", type=int, nargs="*", metavar="VOCAB", help="several vocabularies; none named: 32 k–262 k"
    )
    parser.add_argument(
        "--ways", type=_ways, help=f"of {', '.join(NAMES)}; those that end in _kl with --teacher-hidden"
    )
    parser.add_argument(
        "--teacher-hidden", type=int, metavar="D", help="the forward KL from a live teacher of this width"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--repeats", type=int, default=3, help="measured repetitions")
    parser.add_argument("--warm-ups", type=int, default=1, help="repetitions before them that do not count")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("loss_pass.json"), help="where the JSON goes")
    parser.add_argument("--plot", type=Path, help="PNG of a sweep")
    parser.add_argument("--fill", type=Path, help="Markdown file with markers to put the table into")
    parser.add_argument("--from", dest="source", type=Path, help="do not measure: take this JSON")
    return parser


def _ways(text: str) -> list[str]:
    names = text.split(",")
    if set(names) - set(NAMES):
        raise argparse.ArgumentTypeError(f"{text}; known are {', '.join(NAMES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
