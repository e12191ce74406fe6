"""Losses that hold a constraint with a multiplier: did it hold, and what became of the tokens it is about.

Such a loss is known by its key `<name>/multiplier` in metrics.jsonl, whatever it is called; its distributions are the
block `losses.<name>` of a training step's summary.json. Difficult tokens are those whose signal lies above τ.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from dante.look.numbers import is_number, number
from dante.report.evaluation import details
from dante.report.one_run.results import rows_of
from dante.report.read import Fit, Json, Run
from dante.report.words import MODELS, how, sentence

MULTIPLIER = "multiplier"
# What the end of training is: this share of the steps whose constraint was measured.
END = 0.1


@dataclass(frozen=True)
class Spread:
    """Counts of tokens over a signal in [0, 1], apart for right ones (the most likely token is the label) and wrong."""

    edges: Float64[np.ndarray, "edges"]
    right: Float64[np.ndarray, "bins"]
    wrong: Float64[np.ndarray, "bins"]

    @classmethod
    def of(cls, edges: Any, counts: Any) -> "Spread | None":
        """From a file's lists; None where they are not there, do not fit, or count nothing."""
        if not edges or not isinstance(counts, Mapping) or not counts.get("right") or not counts.get("wrong"):
            return None
        arrays = [np.array(values, dtype=np.float64) for values in (edges, counts["right"], counts["wrong"])]
        fits = len(arrays[1]) == len(arrays[2]) == len(arrays[0]) - 1
        return cls(*arrays) if fits and arrays[1].sum() + arrays[2].sum() > 0 else None

    @property
    def total(self) -> float:
        """All tokens."""
        return float(self.right.sum() + self.wrong.sum())

    def above(self, level: float) -> tuple[float, float]:
        """Right and wrong tokens above a level; the bin that it falls in is divided in proportion."""
        low, high = self.edges[:-1], self.edges[1:]
        part = np.clip((high - level) / (high - low), 0.0, 1.0)
        return float(part @ self.right), float(part @ self.wrong)

    def coarser(self, most: int) -> "Spread":
        """The same in at most so many bins, each of as many old ones, if their number can be divided like that."""
        bins = len(self.right)
        many = next(n for n in range(1, bins + 1) if bins % n == 0 and bins // n <= most)
        right, wrong = (values.reshape(-1, many).sum(axis=1) for values in (self.right, self.wrong))
        return Spread(self.edges[::many], right, wrong)


@dataclass(frozen=True)
class End:
    """Means over the last steps.

    Attributes:
        steps: how many. held: in how many of them g was at most 0.
        violation, excess, bound: g, what is constrained, ε.
    """

    steps: int
    held: int
    violation: float
    excess: float
    bound: float

    @property
    def holds(self) -> bool:
        return self.violation <= 0


@dataclass(frozen=True)
class Constraint:
    """One such loss in one training step."""

    fit: Fit
    name: str

    def values(self, metric: str) -> list[float]:
        """What was logged under `<name>/<metric>`, without lines where it is missing or not finite."""
        key = f"{self.name}/{metric}"
        return [float(row[key]) for row in self.fit.metrics if is_number(row.get(key))]

    @property
    def block(self) -> Json:
        """`losses.<name>` of the summary; empty where there is none."""
        return (self.fit.summary.get("losses") or {}).get(self.name) or {}

    @property
    def threshold(self) -> float | None:
        """τ; None where it was never frozen."""
        stated: Any = self.block.get("threshold")
        if is_number(stated):
            return float(stated)
        return next(iter(reversed(self.values("threshold"))), None)

    @property
    def settings(self) -> Json:
        return self.fit.settings.get("losses", {}).get(self.name) or {}

    @property
    def fixed(self) -> float | None:
        """λ where it is a constant: then nothing tries to keep the bound. None where it moves."""
        level: Any = (self.settings.get("multiplier") or {}).get("level")
        return float(level) if is_number(level) else None

    def spread(self, window: str) -> Spread | None:
        """Tokens `before` (while τ was measured) or `after` (the last steps)."""
        histograms = self.block.get("histograms") or {}
        return Spread.of(histograms.get("edges"), histograms.get(window))

    def end(self) -> End | None:
        """The last tenth of the steps that have a violation; None where no step has one."""
        keys = [f"{self.name}/{metric}" for metric in ("violation", "excess", "bound")]
        rows = [row for row in self.fit.metrics if all(is_number(row.get(key)) for key in keys)]
        last = rows[-max(1, round(END * len(rows))) :]
        if not last:
            return None
        violation, excess, bound = (float(np.mean([row[key] for row in last])) for key in keys)
        return End(len(last), sum(row[keys[0]] <= 0 for row in last), violation, excess, bound)


def of_fit(fit: Fit) -> list[Constraint]:
    """The constrained losses of a training step, in order of appearance."""
    keys = dict.fromkeys(key for row in fit.metrics for key in row if key.endswith(f"/{MULTIPLIER}"))
    return [Constraint(fit, key.rsplit("/", 1)[0]) for key in keys]


def sentences(run: Run) -> list[str]:
    """What the constraint did, and what the model is worth where such a loss may cheat; empty without such a loss."""
    fit_constraints = [(fit, constraint) for fit in run.fits for constraint in of_fit(fit)]
    if not fit_constraints:
        return []
    texts = []
    for fit, constraint in fit_constraints:
        where = f"in {fit.label}, " if len(run.fits) > 1 else ""
        constraint_texts = [_held(constraint), *constraint.block.get("notes", []), _difficult(constraint)]
        texts += [sentence(f"{where}{text}") for text in constraint_texts if text]
    return texts + [text for text in (_calibration(run), _generation(run)) if text]


def _held(constraint: Constraint) -> str:
    end = constraint.end()
    if constraint.fixed is not None:
        acted = next((row["step"] for row in constraint.fit.metrics if row.get(f"{constraint.name}/coefficient")), None)
        since = f"acted from step {acted} on" if acted is not None else "never acted"
        over = f"; over the last logged steps the excess was {number(end.excess)}" if end is not None else ""
        return f"the multiplier λ of {constraint.name} is fixed at {number(constraint.fixed)} and {since}{over}."
    text = f"the multiplier λ of {constraint.name} {_moved(constraint)}"
    if end is None:
        return f"{text}. Its threshold τ was never frozen: training ended while it was measured."
    side = "below" if end.violation <= 0 else "above"
    steps = f"the last {end.steps} logged steps" if end.steps > 1 else "the last logged step"
    verdict = "the constraint held at the end" if end.holds else "the constraint did not hold at the end"
    often = f"; g ≤ 0 in {end.held or 'none'} of these steps" if end.steps > 1 else ""
    return (
        f"{text}, and {verdict}: over {steps} the excess was {number(end.excess)}, {number(abs(end.violation))} {side} "
        f"its bound of {number(end.bound)}{often}."
    )


def _moved(constraint: Constraint) -> str:
    values = constraint.values(MULTIPLIER)
    if not values:
        return "was not logged"
    first, last, top = values[0], values[-1], max(values)
    if top == min(values):
        return "stayed at 0" if top == 0 else f"was {number(top)} throughout"
    limit: Any = (constraint.settings.get("multiplier") or {}).get("maximum")
    reached = ", its limit" if is_number(limit) and top >= limit * (1 - 1e-6) else ""
    most = f" (largest {number(top)}{reached})" if top > max(first, last) or reached else ""
    return f"went from {number(first)} to {number(last)}{most}"


def _difficult(constraint: Constraint) -> str:
    """How many difficult tokens were wrong: counted where the summary counts, else as the steps logged it."""
    level, after, before = constraint.threshold, constraint.spread("after"), constraint.spread("before")
    if level is None:
        return ""
    if after is not None:
        right, wrong = after.above(level)
        if right + wrong == 0:
            return f"no token of the last steps lies above τ = {number(level)}."
        many = f"about {wrong:,.0f} of the {right + wrong:,.0f} difficult tokens (above τ = {number(level)})"
        text = f"{many} of the last steps were wrong ({wrong / (right + wrong):.0%})"
        if before is not None and sum(before.above(level)) > 0:
            at_first = before.above(level)
            text += f"; before the constraint began {at_first[1] / sum(at_first):.0%} were"
        guard = constraint.block.get("guard_words")
        return f"{text}. Difficult tokens are penalised {guard}." if guard else f"{text}."
    logged = constraint.values("difficult_wrong")
    last = logged[-max(1, round(END * len(logged))) :]
    if not last:
        return ""
    return f"in the last steps {np.mean(last):.0%} of the difficult tokens (above τ = {number(level)}) were wrong."


def _calibration(run: Run) -> str:
    calibrations = details(run.evaluation, "calibration")
    if "student" not in calibrations:
        return ""
    text = f"the student's calibration error on held-out answers is {calibrations['student']['ece']:.3f}"
    if "init" in calibrations:
        better = _better(calibrations["student"], calibrations["init"])
        text += f" (initialisation {calibrations['init']['ece']:.3f}{better})"
    entropy = {row["model"]: row["value"] for row in rows_of(run, "heldout", "entropy_nats")}
    if "student" in entropy:
        text += f", at a mean entropy of {entropy['student']:.3f} nats per token"
        text += f" (initialisation {entropy['init']:.3f})" if "init" in entropy else ""
    return sentence(f"{text}.")


def _better(calibration: Json, reference: Json) -> str:
    """Whether a calibration error is another than a second one, by two standard errors of the difference."""
    errors: list[Any] = [block.get("stderr") for block in (calibration, reference)]
    if not all(is_number(error) for error in errors):
        return ""
    gap = calibration["ece"] - reference["ece"]
    if abs(gap) <= 1.96 * float(np.hypot(*errors)):
        return "; the difference is within the error"
    return f"; {'worse' if gap > 0 else 'better'} by {abs(gap):.3f}"


def _generation(run: Run) -> str:
    parts = []
    for metric, verb in (("stop_share", "stop by themselves"), ("loop_share", "loop")):
        rows = {row["model"]: row for row in rows_of(run, "generation", metric)}
        if "student" in rows:
            shown = {model: how(row).value(row["value"]) for model, row in rows.items()}
            others = [f"{MODELS[m]} {shown[m]}" for m in ("init", "teacher") if m in rows]
            beside = f" ({', '.join(others)})" if others else ""
            parts.append(f"{shown['student']} {verb}{beside}")
    return f"Of the student's greedy answers, shown above, {' and '.join(parts)}." if parts else ""
