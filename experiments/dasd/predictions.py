"""A whole run and the sweep → predictions.md: which of DASD's Figures 3, 6 and 10 hold here.

predictions.py runs/dasd_thinking-pocket-s42 runs/dasd-pocket
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dante.experiments.findings import publish, runs_by_arm
from dante.system.files import read_json
from dante.system.jsonl import read_lines

HERE = Path(__file__).parent
PAPER = {"teacher": "+45.1", "boosted": "−63.0", "shared": "+29.0", "student": "−11.1"}


def sharpness(facts: dict[str, Any]) -> Iterator[str]:
    """Figure 3: answers at the lower temperature are sharper."""
    yield "| T | response probability | entropy, nats per token | right |"
    yield "|---|--:|--:|--:|"
    for temperature, one in facts["temperatures"].items():
        yield f"| {temperature} | {one['probability']:.3f} | {one['entropy']:.3f} | {one['right']:.1%} |"


def losses(sweep: Path) -> Iterator[str]:
    """Figure 3: the loss on answers at T = 1 stays higher throughout, in the arms of one temperature."""
    runs = runs_by_arm([str(sweep)])
    low, high = (np.array([_curve(run) for run in runs[arm]]).mean(0) for arm in ("low", "high"))
    steps = len(low)
    above = int((high > low).sum())
    yield "| steps | T = 0.6 | T = 1.0 |"
    yield "|---|--:|--:|"
    for start in range(0, steps, max(steps // 4, 1)):
        part = slice(start, start + max(steps // 4, 1))
        yield f"| {start + 1}–{min(part.stop, steps)} | {low[part].mean():.3f} | {high[part].mean():.3f} |"
    yield ""
    yield f"Mean of {len(runs['low'])} seeds: the loss at T = 1.0 is higher in {above} of {steps} steps."


def positions(facts: dict[str, Any]) -> Iterator[str]:
    """Figure 6: the area between right and wrong answers, by type after training."""
    for temperature, types in facts["after"]["positions"].items():
        yield f"T = {temperature}:"
        yield ""
        yield "| type | area here | 95 % interval | positions | the paper's |"
        yield "|---|--:|--:|--:|--:|"
        for name, one in types.items():
            if one is None:
                yield f"| {name} | too few right answers | | | {PAPER[name]} |"
            else:
                interval = f"{one['low']:+.1f} to {one['high']:+.1f}"
                yield f"| {name} | {one['area']:+.1f} | {interval} | {len(one['right'])} | {PAPER[name]} |"
        yield ""
        if types["teacher"]:
            for side in ("right", "wrong"):
                shares = ", ".join(f"{share:.2f}" for share in types["teacher"][side])
                yield f"Teacher sentences by position in {side} answers: {shares}."
            yield ""


def kept(facts: dict[str, Any]) -> Iterator[str]:
    """Figure 10: what rules do to the distribution of response probabilities."""
    for temperature, one in facts["temperatures"].items():
        yield f"T = {temperature}:"
        yield ""
        yield "| rule | tokens | teacher sentences | right | response probability | shift from all candidates |"
        yield "|---|--:|--:|--:|--:|--:|"
        for name, rule in one["selectors"].items():
            yield (
                f"| {name} | {rule['tokens']:.0f} | {rule['teacher_sentences']:.2f} | {rule['right']:.1%} "
                f"| {rule['probability']:.3f} | {rule['shift']:.3f} |"
            )
        yield ""


def _curve(run: Path) -> list[float]:
    return [row["loss"] for row in read_lines(run / "fit" / "metrics.jsonl")]


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    facts = read_json(Path(sys.argv[1]) / "sentences" / "sentences.json")
    parts = {
        "Figure 3: sharpness": sharpness(facts),
        "Figure 3: losses": losses(Path(sys.argv[2])),
        "Figure 6": positions(facts),
        "Figure 10": kept(facts),
    }
    text = "\n".join("\n".join([f"## {title}", "", *lines, ""]) for title, lines in parts.items())
    publish(HERE, {"predictions.md": text})


if __name__ == "__main__":
    main()
