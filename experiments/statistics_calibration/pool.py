"""Runs → what every held-out answer cost in each of them, small enough to keep beside the tests.

    python experiments/statistics_calibration/pool.py smoke         trains one arm with 24 seeds, minutes on 2 cores
    python experiments/statistics_calibration/pool.py pocket SWEEP  reads the runs of a sweep

The first writes `tests/fixtures/seeds_pool.json`: runs are real and tiny, and whatever differs between two groups of
them is chance. The second writes `pocket.json`: real runs of the pocket pair, three seeds of each arm.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dante.report.evaluation import parts
from dante.system.files import read_json
from dante.system.jsonl import read_lines

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FIXTURE, POCKET = ROOT / "tests" / "fixtures" / "seeds_pool.json", HERE / "pocket.json"
SEEDS = range(1, 25)
# As many held-out answers as at pocket scale; nothing that bits per byte do not need.
OVERRIDES = [
    "+experiment=sft", "scale=smoke", "logger=none", "fit.steps=40", "prompts.count=400",
    "cache.source.heldout=240", "eval.generations=0", "eval.init_generations=0", "eval.choices=0",
    "eval.retention=false", "eval.bootstrap=10", "run.name=pool-s${seed}",
    "only=[teacher,cache,init,fit,release,eval-teacher,eval-init,eval]",
]  # fmt: skip


def smoke() -> None:
    """Trains and stores the pool."""
    seeds = "seed=" + ",".join(map(str, SEEDS))
    two = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", *OVERRIDES, seeds, *two]
    subprocess.run(command, check=True)
    runs = [Path("runs") / f"pool-s{seed}" for seed in SEEDS]
    store(FIXTURE, {"seeds": list(SEEDS)}, runs, digits=3)


def pocket(folder: Path) -> None:
    """Stores the runs of a sweep."""
    points = [p for p in read_json(folder / "sweep.json")["points"] if (p["phase"], p["status"]) == ("final", "done")]
    known = {"arms": [p["arm"] for p in points], "seeds": [p["seed"] for p in points]}
    store(POCKET, known, [folder.parent / p["run"] for p in points], digits=2)


def store(path: Path, known: dict[str, Any], runs: Sequence[Path], digits: int) -> None:
    """Writes bits of every run and answer, and the answers' bytes; all runs scored the same texts."""
    tables = [sorted(read_lines(run / "eval" / "heldout" / "items.jsonl"), key=lambda item: item["id"]) for run in runs]
    first = tables[0]
    assert all([i["text"] for i in one] == [i["text"] for i in first] for one in tables), "other texts"
    content = {"made by": "experiments/statistics_calibration/pool.py", **known}
    content["bytes"] = [round(size) for _, size in parts(first, "student", "bits_per_byte")]
    content["bits"] = [[round(bits, digits) for bits, _ in parts(one, "student", "bits_per_byte")] for one in tables]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"wrote {path}: {len(runs)} runs of {len(first)} answers")


if __name__ == "__main__":
    if sys.argv[1:] == ["smoke"]:
        smoke()
    elif len(sys.argv) == 3 and sys.argv[1] == "pocket":
        pocket(Path(sys.argv[2]))
    else:
        sys.exit(__doc__)
