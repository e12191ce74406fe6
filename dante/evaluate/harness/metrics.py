"""What a benchmark's metric is called in the harness, by the name that it has in our rows."""

from dataclasses import dataclass

from dante.errors import DanteError, did_you_mean
from dante.look.metric import Metric


@dataclass(frozen=True)
class HarnessMetric:
    """A metric of the harness's.

    Attributes:
        metric: its name there.
        filter: what reads it out of an answer there; `none` where an answer is taken as it is; None: whatever its task
            has, which is one.
        label: in tables.
        meaning: in one clause.
    """

    metric: str
    filter: str | None
    label: str
    meaning: str

    def described(self) -> Metric:
        """How it reads."""
        return Metric(self.label, True, "higher", self.meaning)


METRICS = {
    "acc": HarnessMetric("acc", "none", "accuracy", "the right option has the highest likelihood"),
    "acc_norm": HarnessMetric(
        "acc_norm", "none", "length-normalised accuracy", "the right option has the highest likelihood per character"
    ),
    "exact_match_strict": HarnessMetric(
        "exact_match", "strict-match", "exact match, strict", "what stands behind the agreed words is right"
    ),
    "exact_match_flexible": HarnessMetric(
        "exact_match", "flexible-extract", "exact match, flexible", "what stands last in the answer is right"
    ),
    "exact_match": HarnessMetric("exact_match", None, "exact match", "what is read out of the answer is right"),
}


def metrics(names: list[str]) -> dict[str, HarnessMetric]:
    """Metrics by name, the main one first.

    Raises:
        DanteError: a name that stands for none.
    """
    for name in names:
        if name not in METRICS:
            raise DanteError(
                f"benchmarks have no metric {name!r}",
                where="metrics",
                allowed=", ".join(METRICS),
                fix=did_you_mean(name, list(METRICS)) or "correct the name",
            )
    return {name: METRICS[name] for name in names}
