"""What OpenMP's waiting threads cost: `python benchmarks/waiting_threads.py [--model RUN/init/model] [--repeats 5]`.

The same fit in two processes that take turns, one whose threads spin while they wait (libgomp's default) and one whose
threads sleep (`OMP_WAIT_POLICY=passive`, what the lab sets); first on quiet cores, then beside processes that keep as
many cores busy as there are.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from measuring import machine, spread
from training import HERE, choose_records, pocket_teacher
from training_job import Job
from turns import Player

from dante.precision import decide

POLICIES = {"spin": "active", "sleep": "passive"}
SPINNER = "while True: pass"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of the student; the pocket teacher where none is given")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--busy-repeats", type=int, default=3)
    parser.add_argument("--busy", type=int, default=2, help="other processes")
    parser.add_argument("--records", type=int, default=8, help="of a step")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="waiting-") as scratch:
        print(table(options, Path(scratch)))
    return 0


def table(options: argparse.Namespace, scratch: Path) -> str:
    """Medians and ranges of seconds per step, as Markdown."""
    cache = scratch / "cache"
    choose_records(cache, options.records)
    model = options.model or pocket_teacher(scratch)
    rows = []
    with ExitStack() as stack:
        players = {name: _player(name, options, model, cache, scratch, stack) for name in POLICIES}
        for name, others, repeats in (("quiet", 0, options.repeats), ("busy", options.busy, options.busy_repeats)):
            with _busy(others):
                seconds: dict[str, list[float]] = {policy: [] for policy in POLICIES}
                for _ in range(repeats):
                    for policy, player in players.items():
                        seconds[policy].append(player.turn()["seconds"])
                        print(f"{name} {policy} {seconds[policy][-1]:.2f} s", file=sys.stderr)
            for policy, found in seconds.items():
                median = spread(found)
                rows.append(f"| {name} | {policy} | {median['median']:.2f} | {min(found):.2f} – {max(found):.2f} |")
    facts = machine(options.threads, ())
    return "\n".join([str(facts), "", "| cores | waiting threads | s per step | range |", "|---|---|--:|--:|", *rows])


def _player(
    name: str, options: argparse.Namespace, model: Path, cache: Path, scratch: Path, stack: ExitStack
) -> Player:
    blocks = options.repeats + options.busy_repeats + 1
    job = Job(
        model=str(model), cache=str(cache), out=str(scratch / name), records=options.records, blocks=blocks,
        rows=options.records, max_tokens=1024, threads=options.threads, precision=decide("cpu").value, overrides=(),
    )  # fmt: skip
    Path(job.out).mkdir()
    job.write(scratch / name / "job.json")
    environment = {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": POLICIES[name]}
    command = [sys.executable, str(HERE / "training_child.py"), "ours_ce", str(scratch / name / "job.json")]
    player = Player(command, environment, scratch / name / "log")
    stack.callback(player.close)
    player.hear()
    player.turn()  # the first step warms up
    return player


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-c", SPINNER]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


if __name__ == "__main__":
    sys.exit(main())
