"""Which learning rate each arm's validation answers choose: `python experiments/dante_ablation/choose.py`.

Reads `eval/student/validation.jsonl` of the tuning runs; the held-out answers that are reported on are not read.
"""

import sys
from pathlib import Path

from run import ARMS, RATES, ROOT, TUNING_SEED, name_of

from dante.jsonl import read_lines

Arm = tuple[str, str, str]


def validation_bits_per_byte(runs: Path, arm: Arm, rate: str) -> float:
    """Bits per byte of the validation answers of one tuning run."""
    path = runs / name_of("tune", arm, rate, TUNING_SEED) / "eval" / "student" / "validation.jsonl"
    lines = read_lines(path)
    if not lines:
        raise SystemExit(f"no validation scores at {path}: run `run.py tune` first")
    return sum(line["bits"] for line in lines) / sum(line["bytes"] for line in lines)


def table(runs: Path) -> dict[Arm, dict[str, float]]:
    """Bits per byte of the validation answers by arm and learning rate."""
    return {arm: {rate: validation_bits_per_byte(runs, arm, rate) for rate in RATES} for arm in ARMS}


def chosen_rates(runs: Path) -> dict[Arm, str]:
    """The best rate of each arm."""
    return {arm: min(values, key=lambda rate: values[rate]) for arm, values in table(runs).items()}


def main() -> int:
    for arm, values in table(ROOT / "runs").items():
        best = min(values, key=lambda rate: values[rate])
        shown = "  ".join(f"{rate} {value:.4f}{'*' if rate == best else ' '}" for rate, value in values.items())
        print(f"{' '.join(arm):28} {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
