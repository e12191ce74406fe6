"""What a harness's files say of one model and one task, in one form whatever the harness."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dante.statistics.item import Item


@dataclass(frozen=True)
class Score:
    """One number.

    Attributes:
        metric: canonical key, such as `acc_norm` or `pass_at_1`.
        value: as the harness gives it.
        stderr: its standard error, or None.
        n: questions behind it; None where the files do not say.
        part: slice that it is of; empty: the whole task.
        better: `lower`, `higher`, or empty where neither is known to be.
        said: the harness's own words for task and metric.
    """

    metric: str
    value: float
    stderr: float | None
    n: int | None
    part: str = ""
    better: str = "higher"
    said: str = ""


@dataclass(frozen=True)
class Harness:
    """Whose code has measured.

    Attributes:
        name: in rows.
        title: in prose.
        url: where its code is.
        files: what its result files look like, for who looks for them.
    """

    name: str
    title: str
    url: str
    files: str


@dataclass(frozen=True)
class Result:
    """One model's scores in one task, out of one file.

    Attributes:
        path: of the file.
        when: seconds since 1970, as the file says, or else of its last change.
        model: as the file names it; empty where it does not.
        task: by the harness's own name.
        n_shot: worked examples in the prompt; None where the harness knows no such number.
        harness: whose code has measured.
        harness_version: of that; empty where the file does not say.
        scores: those of the whole task first.
        items: per question, where the harness has kept them.
        slices: parts that have scores, in the order of tables.
        counts: what n counts.
        decoding: how the model was asked.
        task_version: of prompts and questions, as the harness counts them.
        split: of the data set; empty where unknown.
        limit: at most so many questions were asked; None: all.
        chat: whether the prompt was written by a chat template; None where unknown.
        precision: of weights and activations, or None.
        notes: what a reader has to know.
    """

    path: Path
    when: float
    model: str
    task: str
    n_shot: int | None
    harness: Harness
    harness_version: str
    scores: Sequence[Score]
    items: Sequence[Item] = ()
    slices: Sequence[str] = ()
    counts: str = "questions"
    decoding: str = ""
    task_version: str = ""
    split: str = ""
    limit: int | None = None
    chat: bool | None = None
    precision: str | None = None
    notes: Sequence[str] = ()
