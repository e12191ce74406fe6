"""What OpenMP's waiting threads cost: `python benchmarks/waiting_threads.py [--model RUN/init/model] [--repeats 5]`.

The same fit in processes that take turns and differ in how often a waiting thread looks before it sleeps: 300,000 times
is libgomp's default, 0 is `OMP_WAIT_POLICY=passive`. First on quiet cores, then beside processes that keep as many
cores busy as there are.
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

from dante.run.precision import decide

SPINS = "300000,30000,3000,0"
# Until whoever started it is gone.
SPINNER = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of the student; the pocket teacher where none is given")
    parser.add_argument("--spins", default=SPINS, help=f"GOMP_SPINCOUNT of each process, {SPINS} by default")
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
        spins = options.spins.split(",")
        players = {name: _player(name, options, model, cache, scratch, stack) for name in spins}
        for cores, others, repeats in (("quiet", 0, options.repeats), ("busy", options.busy, options.busy_repeats)):
            with _busy(others):
                seconds: dict[str, list[float]] = {name: [] for name in spins}
                for _ in range(repeats):
                    for name, player in players.items():
                        seconds[name].append(player.turn()["seconds"])
                        print(f"{cores} cores, {name} spins: {seconds[name][-1]:.2f} s", file=sys.stderr)
            for name, found in seconds.items():
                median = spread(found)["median"]
                rows.append(f"| {cores} | {name} | {median:.2f} | {min(found):.2f} – {max(found):.2f} |")
    facts = machine(options.threads, ())
    head = ["| cores | looks before it sleeps | s per step | range |", "|---|---|--:|--:|"]
    return "\n".join([str(facts), "", *head, *rows])


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
    environment = {"OMP_NUM_THREADS": str(options.threads), "GOMP_SPINCOUNT": name}
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
