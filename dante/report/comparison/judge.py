"""Every metric of every arm against the baseline: value, spread, difference, interval, corrected p-value, mark.

The interval and the p-value are `dante.statistics.crossed`'s; the bootstrap's interval stands beside them and decides
nothing. One metric is primary (held-out bits per byte): its comparisons are corrected so that even one false finding in
the table is unlikely (Holm). All others are exploratory: of what is marked there, a twentieth may be chance
(Benjamini and Hochberg).

An arm with one seed is never marked. Its interval covers other items but no other seed, and over items alone two runs
of one and the same arm are told apart in 70 % of comparisons (experiments/statistics_calibration).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dante.look.metric import Metric
from dante.report.comparison.runs.arms import Arm
from dante.report.comparison.runs.measured import Key, Measured
from dante.report.comparison.tables import Group
from dante.report.words import MODELS
from dante.statistics.bootstrap import seeds_difference
from dante.statistics.correction import benjamini_hochberg, holm
from dante.statistics.crossed import Effect, compare_ratios, compare_values
from dante.statistics.power import detectable
from dante.statistics.ratio import Ratio

PRIMARY: Key = ("heldout", "bits_per_byte")
CONFIDENCE = 0.95
LEVEL = 0.05
POWER = 0.8
RESAMPLES = 10_000
UNDECIDED, BETTER, WORSE, DIFFERENT, ONE_SEED = "undecided", "better", "worse", "different", "one seed"


@dataclass(frozen=True)
class Cell:
    """One arm in one metric.

    Attributes:
        arm: its name.
        values: seed → value.
        mean: over seeds.
        sd: standard deviation over seeds; None with one.
        items: of each run; 0 without.
        effect: against the baseline; None for the baseline and where it is not comparable.
        why_not: why it is not compared, or empty.
        p_corrected: see the module.
        detectable: smallest difference that this comparison finds with 80 % power, at the level that judges it.
        bootstrap: percentile interval over seeds and items, or None.
        verdict: `better`, `worse`, `different` (no direction is better), `undecided`, `one seed` (two students are
            compared, not two recipes), or empty without a judgement.
    """

    arm: str
    values: dict[int, float]
    mean: float
    sd: float | None
    items: int
    effect: Effect | None = None
    why_not: str = ""
    p_corrected: float | None = None
    detectable: float | None = None
    bootstrap: tuple[float, float] | None = None
    verdict: str = ""

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below the level."""
        return self.p_corrected is not None and self.p_corrected < LEVEL


@dataclass(frozen=True)
class Result:
    """One metric of a table.

    Attributes:
        task, metric: as in `eval.json`.
        how: how its numbers read.
        asked: what was asked, in words.
        primary: whether it is the one that judges.
        settings: how the baseline's numbers were made.
        references: model → value of what was not trained here, unranked.
        cells: the baseline's first.
    """

    task: str
    metric: str
    how: Metric
    asked: str
    primary: bool
    settings: dict[str, str]
    references: dict[str, float]
    cells: tuple[Cell, ...]

    @property
    def baseline(self) -> Cell:
        """The baseline's cell."""
        return self.cells[0]

    @property
    def others(self) -> tuple[Cell, ...]:
        """All arms but the baseline."""
        return self.cells[1:]


def judge(group: Group, progress: Callable[[str], None] = lambda _: None) -> list[Result]:
    """All metrics that the baseline of a table has, the primary one first.

    Args:
        group: arms that may be ranked together.
        progress: told each metric before it is compared.
    """
    keys = list(group.baseline.first.evaluation.student)
    results = []
    for key in sorted(keys, key=lambda metric_key: metric_key != PRIMARY):
        progress(f"{key[0]} {key[1]}")
        results.append(_result(group, key))
    return _corrected(results)


def _result(group: Group, key: Key) -> Result:
    base = group.baseline
    of_base = _of(base, key)
    settings = next(iter(of_base.values())).settings
    cells = [_cell(base, of_base)]
    for arm in group.arms[1:]:
        cells.append(_compared(arm, _of(arm, key), of_base, settings))
    reference_rows = {model: rows[key] for model, rows in base.first.evaluation.others.items() if key in rows}
    references = {
        m: reference_rows[m]
        for m in [*(m for m in MODELS if m in reference_rows), *(m for m in reference_rows if m not in MODELS)]
    }
    evaluation = base.first.evaluation
    return Result(
        *key,
        evaluation.how[key],
        evaluation.headings[key[0].split("/")[0]],
        key == PRIMARY,
        settings,
        references,
        tuple(cells),
    )


def _of(arm: Arm, key: Key) -> dict[int, Measured]:
    return {s: run.evaluation.student[key] for s, run in arm.runs.items() if key in run.evaluation.student}


def _cell(arm: Arm, measurements: Mapping[int, Measured]) -> Cell:
    values = {seed: measurement.value for seed, measurement in measurements.items()}
    all_values = np.array(list(values.values()), dtype=np.float64)
    sd = float(all_values.std(ddof=1)) if len(all_values) > 1 else None
    items = min(
        (len(measurement.ratio) if measurement.ratio else 0 for measurement in measurements.values()), default=0
    )
    return Cell(arm.name, values, float(all_values.mean()) if len(all_values) else float("nan"), sd, items)


def _compared(
    arm: Arm, measurements: Mapping[int, Measured], base: Mapping[int, Measured], settings: dict[str, str]
) -> Cell:
    cell = _cell(arm, measurements)
    if not measurements:
        return replace(cell, why_not="not measured")
    other = _other_settings([*measurements.values(), *base.values()], settings)
    if other:
        return replace(cell, why_not=other)
    arm_ratios, base_ratios = _ratios(measurements), _ratios(base)
    if arm_ratios is None or base_ratios is None:
        numbers = ({s: measurement.value for s, measurement in runs.items()} for runs in (measurements, base))
        return replace(cell, effect=compare_values(*numbers, confidence=CONFIDENCE), items=0)
    effect = compare_ratios(arm_ratios, base_ratios, confidence=CONFIDENCE)
    return replace(cell, effect=effect, bootstrap=_bootstrap(arm_ratios, base_ratios, effect))


def _other_settings(runs: Sequence[Measured], settings: dict[str, str]) -> str:
    """In which settings a number was made otherwise than the baseline's; empty where all agree."""
    for run in runs:
        for name in [*settings, *run.settings]:
            run_value, baseline_value = run.settings.get(name), settings.get(name)
            if run_value != baseline_value and not (name == "items" and None in (run_value, baseline_value)):
                what = (
                    "other items" if name == "items" else f"{name.replace('_', ' ')} {run_value}, not {baseline_value}"
                )
                return f"not comparable: {what}"
    return ""


def _ratios(measurements: Mapping[int, Measured]) -> dict[int, Ratio] | None:
    ratios = {seed: measurement.ratio for seed, measurement in measurements.items() if measurement.ratio is not None}
    return ratios if len(ratios) == len(measurements) else None


def _bootstrap(a: Mapping[int, Ratio], b: Mapping[int, Ratio], effect: Effect) -> tuple[float, float] | None:
    if not effect.paired or effect.items < 2 or not np.isfinite(effect.difference):
        return None
    pairs = ([arm[seed] for seed in effect.seeds_a] for arm in (a, b))
    difference = seeds_difference(*pairs, resamples=RESAMPLES, confidence=CONFIDENCE, seed=0)
    return (difference.low, difference.high) if np.isfinite([difference.low, difference.high]).all() else None


def _corrected(results: Sequence[Result]) -> list[Result]:
    """Fills in corrected p-values, verdicts, and what each comparison could have found."""
    judged = list(results)
    for primary, correct in ((True, holm), (False, benjamini_hochberg)):
        places = [(i, j) for i, r in enumerate(judged) if r.primary == primary for j in range(1, len(r.cells))]
        effects = [judged[i].cells[j].effect for i, j in places]
        p = [effect.p if effect and effect.covers != "items" else None for effect in effects]
        # Holm's first step is its strictest; exploratory metrics have no level of their own before they are seen.
        level = LEVEL / max(1, sum(p_value is not None for p_value in p)) if primary else LEVEL
        for (i, j), corrected in zip(places, correct(p), strict=True):
            cell = judged[i].cells[j]
            cell_effect = cell.effect
            minimum_detectable = (
                detectable(cell_effect.parts, level=level, power=POWER)
                if cell_effect and cell_effect.covers != "items"
                else None
            )
            cell = replace(cell, p_corrected=corrected, detectable=minimum_detectable)
            cell = replace(cell, verdict=verdict_of(cell_effect, corrected, judged[i].how))
            cells = list(judged[i].cells)
            cells[j] = cell
            judged[i] = replace(judged[i], cells=tuple(cells))
    return judged


def verdict_of(effect: Effect | None, p_corrected: float | None, how: Metric) -> str:
    """What a corrected p-value says of a difference; see `Cell.verdict`."""
    if effect is not None and effect.covers == "items":
        return ONE_SEED
    if effect is None or p_corrected is None:
        return ""
    if p_corrected >= LEVEL:
        return UNDECIDED
    if not how.better:
        return DIFFERENT
    return BETTER if (effect.difference < 0) == (how.better == "lower") else WORSE
