"""What an experiment's own script needs beside `fill`: the runs of every arm, pairs of arms judged, a place for both.

A sweep's own comparison puts arms with other train data into a table of their own, and judges each against one
baseline; an experiment's question may be about other pairs. Intervals are over seeds and items, p-values are corrected
(Holm) within each metric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from dante.experiments.runs import read_config
from dante.look.theme import LIGHT, panel, png
from dante.report.comparison.runs.find import find
from dante.report.evaluation import parts
from dante.report.figures.effects import whiskers
from dante.statistics.correction import holm
from dante.statistics.crossed import Effect, compare_ratios
from dante.statistics.power import seeds_to_decide
from dante.statistics.ratio import Ratio
from dante.system.jsonl import read_lines

CONFIDENCE = 0.95
# Times the usual difference; beyond it a figure's axis is linear near zero only.
_FAR = 20
Pair = tuple[str, str]


@dataclass(frozen=True)
class Measure:
    """One metric.

    Attributes:
        suite: that has it.
        metric: its name there.
        words: what it is called in tables and figures.
        less_is_better: else more is.
        model: whose: student, or what a step `eval-<model>` scored.
    """

    suite: str
    metric: str
    words: str
    less_is_better: bool
    model: str = "student"

    @property
    def stem(self) -> str:
        """Of its figure's file."""
        return self.metric if self.model == "student" else f"{self.model}_{self.metric}"


ANSWERS = (
    Measure("heldout", "kl_nats", "KL to the teacher, nats per token", True),
    Measure("heldout", "bits_per_byte", "bits per byte of held-out answers", True),
    Measure("heldout", "teacher_agreement", "agreement with the teacher", False),
    Measure("generation", "stop_share", "share of answers that end by themselves", False),
    Measure("generation", "loop_share", "share of answers that loop", True),
)


def scored(run: Path, measure: Measure) -> Ratio | None:
    """A metric of one run, in the order of its items' ids; None where the run did not score that model.

    A student's items are those that its step `eval` joined, another model's those of its own step.
    """
    student = measure.model == "student"
    path = run / ("eval" if student else f"eval-{measure.model}") / measure.suite / "items.jsonl"
    if not path.is_file():
        return None
    items = sorted(read_lines(path), key=lambda item: item["id"])
    values = (
        parts(items, measure.model, measure.metric) if student else [item["values"][measure.metric] for item in items]
    )
    numerator, denominator = np.array(values, dtype=np.float64).T
    return Ratio(numerator, denominator)


def write_contrasts(
    folder: Path,
    sweeps: Sequence[str],
    pairs: Sequence[Pair],
    measures: Sequence[Measure],
    *,
    name: str = "contrasts",
    seeds_needed: bool = False,
) -> None:
    """Writes `<name>.md` and a figure per metric into an experiment's folder, and prints the tables.

    Args:
        folder: the experiment's.
        sweeps: directories of finished sweeps.
        pairs: arms; the second is what the first is measured against.
        measures: a table's rows, and a figure each.
        name: of the table.
        seeds_needed: say of what is undecided how many seeds would decide it, if the measured difference is true.

    Raises:
        DanteError: there is no run, as `dante.report.comparison.runs.find`.
    """
    runs = {arm: {int(read_config(run)["seed"]): run for run in found} for arm, found in runs_by_arm(sweeps).items()}
    lines = ["| | " + " | ".join(runs) + " |", "|---|" + "--:|" * len(runs)]
    contrasts = ["| difference | metric | | 95 % interval | p, corrected | |", "|---|---|--:|--:|--:|---|"]
    figures: dict[str, bytes] = {}
    for measure in measures:
        values = {arm: [scored(run, measure) for run in by_seed.values()] for arm, by_seed in runs.items()}
        arms = {
            arm: {seed: ratio for seed, ratio in zip(runs[arm], ratios, strict=True) if ratio is not None}
            for arm, ratios in values.items()
        }
        arms = {arm: by_seed for arm, by_seed in arms.items() if by_seed}
        asked = [pair for pair in pairs if set(pair) <= arms.keys()]
        effects = [compare_ratios(arms[a], arms[b], confidence=CONFIDENCE) for a, b in asked]
        lines.append(f"| {measure.words} | " + " | ".join(_cell(arms.get(arm)) for arm in runs) + " |")
        p = holm([effect.p for effect in effects])
        for (a, b), effect, corrected in zip(asked, effects, p, strict=True):
            judged = verdict(effect, corrected, measure) + (needed(effect, corrected) if seeds_needed else "")
            contrasts.append(
                f"| {a} − {b} | {measure.words} | {effect.difference:+.3f} | {effect.low:+.3f} to {effect.high:+.3f} | "
                f"{corrected:.3g} | {judged} |"
            )
        axes = panel(LIGHT, measure.words, "left of zero: less", size_in=(5.4, 1.2 + 0.2 * len(asked)))
        _draw(axes, measure, asked, effects, p)
        alike = sum(other.stem == measure.stem for other in measures) > 1
        figures[f"{measure.suite}_{measure.stem}.png" if alike else f"{measure.stem}.png"] = png(axes)
    text = "\n".join([*lines, "", *contrasts]) + "\n"
    publish(folder, {f"{name}.md": text, **figures})


def verdict(effect: Effect, corrected: float | None, measure: Measure) -> str:
    """`undecided` where the difference does not hold after correction."""
    if corrected is None or corrected >= 1 - CONFIDENCE:
        return "undecided"
    return "better" if (effect.difference < 0) == measure.less_is_better else "worse"


def needed(effect: Effect, corrected: float | None) -> str:
    """How many seeds would decide what is undecided, behind a comma; empty where it is decided."""
    if (corrected is not None and corrected < 1 - CONFIDENCE) or len(effect.parts) < 2:
        return ""
    whole, seeds_alone = effect.parts
    per_seed = seeds_alone.variance * len(effect.seeds_a)
    seeds = seeds_to_decide(
        effect.difference, per_seed, max(whole.variance - seeds_alone.variance, 0.0), level=1 - CONFIDENCE
    )
    return ", no number of seeds on these items" if seeds is None else f", {seeds} seeds"


def _cell(by_seed: Mapping[int, Ratio] | None) -> str:
    if by_seed is None:
        return ""
    values = [ratio.value for ratio in by_seed.values()]
    return f"{np.mean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})"


def _draw(
    axes: Axes, measure: Measure, pairs: Sequence[Pair], effects: Sequence[Effect], p: Sequence[float | None]
) -> None:
    """Differences of one metric; coloured where they hold after correction."""
    rows: dict[str, tuple[float, float, float, str]] = {}
    for (a, b), effect, corrected in zip(pairs, effects, p, strict=True):
        assert effect.low is not None
        assert effect.high is not None
        rows[f"{a} − {b}"] = (effect.low, effect.difference, effect.high, verdict(effect, corrected, measure))
    whiskers(axes, rows)
    sizes = sorted(abs(effect.difference) for effect in effects if effect.difference)
    if sizes and sizes[-1] > _FAR * (usual := sizes[len(sizes) // 2]):
        # One arm far out would make all others a dot on zero.
        axes.set_xscale("symlog", linthresh=10.0 ** np.floor(np.log10(usual)), linscale=2)
        axes.set_xlabel("left of zero: less; logarithmic away from it", color=LIGHT.muted, fontsize=9)


def runs_by_arm(paths: Sequence[str]) -> dict[str, list[Path]]:
    """Finished sweeps → the directories of each arm's runs, evaluated ones or not.

    Raises:
        DanteError: there is none, as `dante.report.comparison.runs.find`.
    """
    folders_by_arm: dict[str, list[Path]] = {}
    for point in find([Path(path) for path in paths], evaluated=False).points:
        folders_by_arm.setdefault(str(point.arm), []).append(point.path)
    return folders_by_arm


def publish(folder: Path, files: Mapping[str, str | bytes], before: Sequence[str] = ()) -> None:
    """Writes files into an experiment's folder and says where; texts (tables) are printed, too.

    Args:
        folder: the experiment's.
        files: name → content.
        before: names of files that the script has written before.
    """
    for name, content in files.items():
        data = content.encode("utf-8") if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        if isinstance(content, str):
            print(content)
    print("\n".join(f"wrote {folder / name}" for name in (*before, *files)))
