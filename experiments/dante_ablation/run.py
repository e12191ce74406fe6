"""The ablation's runs, several at a time: `python experiments/dante_ablation/run.py tune|final [--jobs 2]`.

tune   every arm at every learning rate of the grid, seed 1
final  every arm at the learning rate that its validation answers chose, seeds 1 to 3 (reads runs/; see choose.py)

Every run is one `python train.py` command with one thread. Finished steps are not repeated, so an interrupted ablation
goes on where it was with the same command.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RATES = ("1e-3", "2e-3")
SEEDS = (1, 2, 3)
TUNING_SEED = 1

# What each level of a factor changes in `+experiment=dante_mosaic`; everything else is equal.
CURRICULUM = {
    "sorted": ["fit.curriculum._target_=dante.curriculum.SortedOnceRepeat"],
    "shuffled": ["fit.curriculum._target_=dante.curriculum.Shuffled"],
}
# w(H) = 1 is plain cross-entropy under the card's λ_CE schedule: only the weighting differs.
WEIGHTING = {"cwce": ["losses.cwce.floor=0.30"], "ce": ["losses.cwce.floor=1.0"]}
ANCHOR = {
    "off": ["loss=[cwce]"],
    "calibrated": ["loss=[cwce,tea]"],
    # The card's anchor inside the card's one global clip, which is how it would act there.
    "card": [
        "loss=[cwce,tea]",
        "fidelity.anchor.reduction=frobenius_sum",
        "fidelity.anchor.calibrate=false",
        "fidelity.clip=global",
    ],
}
ARMS = list(product(CURRICULUM, WEIGHTING, ANCHOR))
# What each phase reads: a choice looks at validation answers, a result at held-out ones. Answers, four-way choices and
# retention are the single runs' business.
EVALUATION = {
    "tune": ["eval.validation=true", "eval.heldout=1"],
    "final": ["eval.validation=false", "eval.heldout=200"],
}
BITS_ONLY = ["eval.generations=0", "eval.choices=0", "eval.retention=false", "eval.bootstrap=200"]
# No report: the ablation's own page is analyse.py's business.
STEPS = ["teacher", "cache", "init", "fit", "release", "eval-teacher", "eval-init", "eval"]


def name_of(phase: str, arm: tuple[str, str, str], rate: str, seed: int) -> str:
    """The run's name, from which its phase and arm can be read back."""
    return f"{phase}-{'-'.join(arm)}-lr{rate}-s{seed}"


def command(phase: str, arm: tuple[str, str, str], rate: str, seed: int) -> list[str]:
    """The command line of one run; both phases share the fits that are equal."""
    curriculum, weighting, anchor = arm
    levels = [*CURRICULUM[curriculum], *ANCHOR[anchor], *WEIGHTING[weighting]]
    run = [f"run.name={name_of(phase, arm, rate, seed)}", f"seed={seed}", f"fit.lr={rate}"]
    common = ["+experiment=dante_mosaic", "scale=pocket", "budget=study", "logger=none", "trainer.threads=1"]
    only = f"only=[{','.join(STEPS)}]"
    return [sys.executable, "train.py", *common, *levels, *run, *EVALUATION[phase], *BITS_ONLY, only]


def run_all(commands: list[list[str]], jobs: int) -> int:
    """Runs the commands, `jobs` at a time; returns how many failed. Each one's output goes to runs/<name>.log."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    (ROOT / "runs").mkdir(exist_ok=True)

    def one(number: int) -> int:
        arguments = commands[number]
        name = next(a.split("=", 1)[1] for a in arguments if a.startswith("run.name="))
        with (ROOT / "runs" / f"{name}.log").open("a") as log:
            code = subprocess.run(arguments, cwd=ROOT, env=environment, stdout=log, stderr=log).returncode
        print(f"[{number + 1}/{len(commands)}] {name}: {'done' if code == 0 else f'exit {code}'}", flush=True)
        return code

    with ThreadPoolExecutor(jobs) as pool:
        return sum(code != 0 for code in pool.map(one, range(len(commands))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=("tune", "final"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    options = parser.parse_args()
    if options.phase == "tune":
        points = [(arm, rate, TUNING_SEED) for arm in ARMS for rate in RATES]
    else:
        from choose import chosen_rates

        rates = chosen_rates(ROOT / "runs")
        # Whole factors first: an ablation that is cut short lacks the card's anchor, not a seed of everything.
        ordered = sorted(
            ARMS, key=lambda arm: (arm[2] == "card", arm[:2] not in {("sorted", "cwce"), ("shuffled", "ce")})
        )
        points = [(arm, rates[arm], seed) for arm in ordered for seed in SEEDS]
    return run_all([command(options.phase, *point) for point in points], options.jobs)


if __name__ == "__main__":
    sys.exit(main())
