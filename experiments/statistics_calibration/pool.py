"""One arm with 24 seeds, and what every held-out answer cost: `python experiments/statistics_calibration/pool.py`.

The runs are real and tiny (scale=smoke: one minute in all on two cores). Whatever differs between two groups of them
is chance, so a comparison that reports a difference is wrong. Writes `tests/fixtures/seeds_pool.json`.
"""

import json
import subprocess
import sys
from pathlib import Path

from dante.jsonl import read_lines

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests" / "fixtures" / "seeds_pool.json"
SEEDS = range(1, 25)
# As many held-out answers as at pocket scale; nothing that bits per byte do not need.
OVERRIDES = [
    "+experiment=sft", "scale=smoke", "logger=none", "fit.steps=40", "cache.source.prompts.count=400",
    "cache.source.heldout=240", "eval.generations=0", "eval.init_generations=0", "eval.choices=0",
    "eval.retention=false", "eval.bootstrap=10", "run.name=pool-s${seed}",
    "only=[teacher,cache,init,fit,release,eval-teacher,eval-init,eval]",
]  # fmt: skip


def main() -> int:
    command = [sys.executable, str(ROOT / "train.py"), "-m", *OVERRIDES, "seed=" + ",".join(map(str, SEEDS))]
    subprocess.run(command, check=True)
    runs = [read_lines(Path("runs") / f"pool-s{seed}" / "eval" / "items.jsonl") for seed in SEEDS]
    first = runs[0]
    assert all([i["text_sha256"] for i in run] == [i["text_sha256"] for i in first] for run in runs), "other texts"
    content = {
        "made by": "experiments/statistics_calibration/pool.py",
        "seeds": list(SEEDS),
        "bytes": [item["bytes"] for item in first],
        "bits": [[round(item["bits"]["student"], 3) for item in run] for run in runs],
    }
    FIXTURE.parent.mkdir(exist_ok=True)
    FIXTURE.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"wrote {FIXTURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
