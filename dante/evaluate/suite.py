"""What a suite is: one thing that is measured of any model, as a part with one form of result.

A suite is one file and one YAML in `conf/suite/`. It says what it measures (`metrics`), measures a `Subject`, and
returns items: whatever a quantity is a ratio over, each with its numerators and denominators. Rows, paired differences,
tables, reports and comparisons follow from the items; none of them knows a suite by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dante
from dante.evaluate.progress import Bars
from dante.evaluate.subject import Subject
from dante.look.metric import Metric
from dante.statistics.item import Item

__all__ = ["Item", "Measurement", "Metric", "NotMeasured", "Stated", "Suite"]


class NotMeasured(Exception):
    """A suite cannot be measured of a model here; the text is a note of the evaluation, and the other suites go on."""


@dataclass(frozen=True)
class Stated:
    """A quantity that does not follow from items, or that another harness has worked out: it is taken as it is."""

    metric: str
    value: float
    stderr: float | None
    n: int


@dataclass(frozen=True)
class Measurement:
    """What a suite found of one model.

    Attributes:
        items: every row and every paired difference is a ratio over them.
        slices: the parts that get rows of their own, in the order of tables.
        stated: quantities beside them.
        others: model → items, of models that the suite makes by itself, such as a trigram.
        details: plain content that a figure draws or a command reads.
        answers: texts of the model, `{id, text, tokens, stopped, …}`: shown side by side.
        tokens: items token by token, `{id, prompt, …, tokens: […]}`: shown in colour.
        notes: what a reader has to know.
        command: prints the same numbers outside this lab; empty: none.
        decoding: instead of the metrics' own, where that was not known before.
        n_shot: worked examples in the prompt.
        harness: whose code has measured.
        harness_version: of that.
        protocol: what else a row says of how it was measured: `task_version`, `split`, `limit`, `chat`, `said`.
    """

    items: Sequence[Item]
    slices: Sequence[str] = ()
    stated: Sequence[Stated] = ()
    others: Mapping[str, Sequence[Item]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    answers: Sequence[Mapping[str, Any]] = ()
    tokens: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    command: str = ""
    decoding: str = ""
    n_shot: int = 0
    harness: str = "dante"
    harness_version: str = dante.__version__
    protocol: Mapping[str, Any] = field(default_factory=dict)


class Suite(ABC):
    """One thing that is measured of any model.

    Attributes:
        name: its key in `eval.suites`; the task of its rows, and the folder that it is written to.
        heading: of its tables.
        counts: what n counts: `answers`, `texts`.
        metrics: by key, the main one first.
        contrasts: pairs of models whose difference in the main metric gets an interval; the first pair in every metric
            and in every slice of the main one. None: no differences.
    """

    heading: str
    counts: str = "items"
    metrics: Mapping[str, Metric]
    contrasts: Sequence[tuple[str, str]] = (("student", "init"),)

    def __init__(self, name: str = "") -> None:
        self.name = name or type(self).__name__.lower()

    @abstractmethod
    def measure(self, subject: Subject, out: Path, bars: Bars) -> Measurement | None:
        """Measure one model.

        Args:
            subject: the model, and the cache's records.
            out: the suite's own folder, where it may leave files besides those that it returns.
            bars: `bars.add(what, total)` gives what to call with the number of items finished.

        Returns:
            None where the settings ask for nothing.

        Raises:
            NotMeasured: it cannot be measured of this model here.
        """
