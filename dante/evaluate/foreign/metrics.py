"""How foreign metrics read, and shares as shares of one whether a harness has printed 0.67 or 67."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from dante.errors import DanteError
from dante.evaluate.foreign.result import Result, Score
from dante.evaluate.harness.metrics import METRICS
from dante.look.metric import Metric

# The names of what counts questions, with whatever stands around them: `prompt_level_strict_acc`, `acc_norm`.
_SHARE = re.compile(r"(^|_)(acc|accuracy|exact_match|em|f1|mc1|mc2|pass_at_\d+)(_|$)")
_PASS = re.compile(r"pass_at_(\d+)$")


def described(score: Score, decoding: str) -> Metric:
    """A score's metric, as tables and figures write it."""
    known = METRICS.get(score.metric)
    label, meaning = (known.label, known.meaning) if known else (score.metric, "")
    passed = _PASS.match(score.metric)
    if passed:
        k = passed[1]
        label, meaning = (
            f"pass@{k}",
            f"one of {k} programs passes all tests" if k != "1" else "a program passes all tests",
        )
    return Metric(label, is_share(score.metric), score.better, meaning, decoding)


def is_share(metric: str) -> bool:
    """Whether a metric is a share of questions."""
    return _SHARE.search(metric) is not None


def in_shares(results: Sequence[Result]) -> list[Result]:
    """Results whose shares lie in 0 … 1; a file with one share above 1 gives all of them as percentages.

    Raises:
        DanteError: a share that is neither a share nor a percentage.
    """
    finite = [_finite(result) for result in results]
    percent = {result.path for result in finite for score in _shares(result) if score.value > 1}
    return [_hundredths(result) if result.path in percent else result for result in finite]


def _finite(result: Result) -> Result:
    kept = [score for score in result.scores if math.isfinite(score.value)]
    notes = [f"{score.said} is {score.value}: left out." for score in result.scores if not math.isfinite(score.value)]
    return replace(result, scores=kept, notes=[*result.notes, *notes])


def _shares(result: Result) -> list[Score]:
    shares = [score for score in result.scores if is_share(score.metric)]
    for score in shares:
        if not 0 <= score.value <= 100:
            raise DanteError(
                f"{score.said} is {score.value}",
                where=str(result.path),
                allowed="a share, 0 to 1, or a percentage, 0 to 100",
                fix="repeat the evaluation, or import the other result files by name",
            )
    return shares


def _hundredths(result: Result) -> Result:
    scores = [_hundredth(score) if is_share(score.metric) else score for score in result.scores]
    said = f"{result.task}: {result.path.name} gives percentages; they are written as shares of one."
    return replace(result, scores=scores, notes=[*result.notes, said])


def _hundredth(score: Score) -> Score:
    return replace(score, value=score.value / 100, stderr=None if score.stderr is None else score.stderr / 100)
