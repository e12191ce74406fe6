"""Speed of the teacher cache: `python benchmarks/cache.py records|open|tokenise`. Only public functions are used.

Every number is the median of several repetitions; the spread is printed beside it. What is written goes to a temporary
folder. Results are recorded in benchmarks/README.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from dante.cache import CacheWriter, Record, read_records
from dante.cache.shipped import POCKET

# What the fresh process of `open` runs: it prints seconds, records, resident MiB after opening and after 200 records.
OPEN = """
import json, sys, time
start = time.perf_counter()
from dante.cache.records.index import IndexedCache
imported = time.perf_counter()
def resident_mib():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * 4096 / 2**20
cache = IndexedCache(sys.argv[1])
opened, resident = time.perf_counter(), resident_mib()
ids = [cache.ids[i].as_py() for i in range(0, len(cache), max(len(cache) // 200, 1))]
start_reading = time.perf_counter()
for name in ids:
    assert cache.by_id(name).id == name
read = time.perf_counter()
print(json.dumps({"why": cache.made_because, "records": len(cache), "import_s": imported - start,
    "open_s": opened - imported, "resident_mib": resident, "by_id_ms": (read - start_reading) / len(ids) * 1e3,
    "resident_after_mib": resident_mib()}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    records = commands.add_parser("records", help="writing and validating, in records per second")
    records.add_argument("--count", type=int, default=20_000)
    opening = commands.add_parser("open", help="opening a cache of a million records in a fresh process")
    opening.add_argument("--count", type=int, default=1_000_000)
    tokenise = commands.add_parser("tokenise", help="the tokenised table of the pocket cache, in MB of text per second")
    tokenise.add_argument("--tokenizer", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="folder or hub id")
    for command in (records, opening, tokenise):
        command.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    {"records": bench_records, "open": bench_open, "tokenise": bench_tokenise}[args.command](args)


def bench_records(args: argparse.Namespace) -> None:
    """Five-field and full records: writing (index and manifest included), then reading with every check."""
    for name, make in (("five-field", five_fields), ("full", full)):
        records = list(make(args.count))
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder)

            def write(records: list[Record] = records, directory: Path = directory) -> None:
                CacheWriter(directory).add(records).seal(teacher={"name": "synthetic"})

            def validate(directory: Path = directory) -> None:
                read_records(directory)

            writing, reading = timed(write, args.repeat), timed(validate, args.repeat)
            size = sum(path.stat().st_size for path in directory.glob("records-*"))
            index = sum(path.stat().st_size for path in directory.glob("index.*"))
        both = [a + b for a, b in zip(writing, reading, strict=True)]
        for what, seconds in (("write", writing), ("validate", reading), ("write + validate", both)):
            print(f"{name:<11} {what:<17} {rate([args.count / s for s in seconds])} records/s")
        print(f"{name:<11} {size / args.count:.0f} bytes per record in shards, {index / args.count:.0f} in the index")


def bench_open(args: argparse.Namespace) -> None:
    """Generates the cache once, then opens it in fresh processes: first with the writer's index."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        CacheWriter(folder).add(five_fields(args.count)).seal(teacher={"name": "synthetic"})
        seconds = time.perf_counter() - start
        print(f"written in {seconds:.0f} s ({args.count / seconds:,.0f} records/s, generating them included)")
        found = []
        for _ in range(args.repeat):
            done = subprocess.run([sys.executable, "-c", OPEN, folder], capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout))
        for name, values in ((key, [f[key] for f in found]) for key in found[0]):
            print(f"{name:<19} {values[0] if isinstance(values[0], str) else rate(values, 3)}")


def bench_tokenise(args: argparse.Namespace) -> None:
    """Text is prompts and answers as the records hold them; CPU seconds of one thread, so it is per core."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from dante.data.table import write_table
    from dante.text.chat import ChatRenderer
    from dante.text.tokenizer import load_tokenizer

    records, renderer = read_records(POCKET), ChatRenderer(load_tokenizer(args.tokenizer))
    size_mb = sum(len(r.teacher_text.encode()) + len(str(r.prompt).encode()) for r in records) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.arrow"
        write_table(records[:200], renderer, path)  # the first call loads and compiles
        seconds = timed(lambda: write_table(records, renderer, path), args.repeat, time.process_time)
    print(f"{size_mb:.2f} MB, {len(records)} records: {rate([size_mb / s for s in seconds], 3)} MB/s per core")


def five_fields(count: int) -> Iterator[Record]:
    """The card's five fields: pocket texts, each different, so that compression is neither free nor hopeless."""
    for index, known in enumerate(pocket_texts(count)):
        yield Record(f"{index:016x}", f"{known.prompt} ({index})", known.teacher_text, known.output_entropy)


def full(count: int) -> Iterator[Record]:
    """All fields, with 130 log-probabilities and offsets each."""
    rng = np.random.default_rng(0)
    for index, known in enumerate(pocket_texts(count)):
        size = len(known.teacher_text.encode())
        ends = np.sort(rng.integers(0, size + 1, 130))
        ends[-1] = size
        logprobs = np.round(-rng.exponential(1.0, 130), 4)
        yield Record(
            id=f"{index:016x}",
            prompt=[{"role": "user", "content": f"{known.prompt} ({index})"}],
            teacher_text=known.teacher_text,
            output_entropy=known.output_entropy,
            output_entropy_upper=known.output_entropy + 0.5,
            self_consistency=0.5,
            difficulty_score=0.5,
            finish_reason="stop",
            temperature=0.7,
            sample_index=index % 4,
            domain=known.domain,
            language=known.language,
            token_logprobs=logprobs.tolist(),
            token_ends=ends.tolist(),
            split="train",
            family=known.family,
        )


def pocket_texts(count: int) -> Iterator[Record]:
    known = read_records(POCKET)
    return (known[index % len(known)] for index in range(count))


def timed(work: Callable[[], None], repeat: int, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Seconds of every repetition."""
    seconds = []
    for _ in range(repeat):
        start = clock()
        work()
        seconds.append(clock() - start)
    return seconds


def rate(values: list[float], digits: int = 0) -> str:
    """Median, and the range of all repetitions."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} (median of {len(values)}; {low:,.{digits}f} to {high:,.{digits}f})"


if __name__ == "__main__":
    main()
