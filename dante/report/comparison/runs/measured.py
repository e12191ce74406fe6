"""What an evaluation holds of its student: every number, how it was made, and the items that it is a ratio over.

`eval.json` has the numbers. The items beside it are what lets two runs be compared within an item; a quantity without
them (a calibration error, another harness's score) has only its seeds.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dante.errors import DanteError
from dante.report.read import Json
from dante.statistics.ratio import Ratio
from dante.system.files import read_json
from dante.system.jsonl import read_lines

STUDENT = "student"
# What must be equal for two numbers to be comparable, and what it is called when it is not.
SETTINGS = ("decoding", "n_shot", "harness", "harness_version", "n")
Key = tuple[str, str]
Line = Json
# Numerator and denominator of an item.
Part = tuple[int | float, int | float]


@dataclass(frozen=True)
class Measured:
    """One quantity of one run.

    Attributes:
        value: as in `eval.json`.
        settings: how it was made; numbers are comparable when all of it is equal.
        ratio: per item, in the order of their ids; None without items.
    """

    value: float
    settings: dict[str, str]
    ratio: Ratio | None


@dataclass(frozen=True)
class Evaluation:
    """Everything measured of one run.

    Attributes:
        student: (task, metric) → quantity, in the order of `eval.json`.
        others: model → (task, metric) → value; teacher, initialisation and counting models.
        scored: identity of the held-out texts, or of how many there are where no item tells.
        heldout: how many of them.
    """

    student: dict[Key, Measured]
    others: dict[str, dict[Key, float]]
    scored: str
    heldout: int


def read_evaluation(folder: Path) -> Evaluation:
    """Reads `eval.json` and the items beside it.

    Raises:
        DanteError: a file is damaged, there is no row of a student, or items do not add up to their row.
    """
    content = read_json(folder / "eval.json")
    lines = {
        "heldout": read_lines(folder / "items.jsonl"),
        "retention": read_lines(folder / "retention.jsonl"),
        "generation": [i for i in read_lines(folder / "generations.jsonl") if STUDENT in i.get("answers", {})],
        "continuation": read_lines(folder / STUDENT / "choices.jsonl"),
    }
    student: dict[Key, Measured] = {}
    others: dict[str, dict[Key, float]] = {}
    try:
        for row in content["rows"]:
            key = (row["task"], row["metric"])
            if row["model"] != STUDENT:
                others.setdefault(row["model"], {})[key] = float(row["value"])
                continue
            student[key] = _measured(row, lines, content.get("precision"), folder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DanteError):
            raise
        raise _damaged(folder, f"{type(error).__name__} {error}") from error
    if not student:
        raise _damaged(folder, "no row of a student")
    heldout = lines["heldout"]
    scored = _identity(heldout) if heldout else f"{content.get('heldout', {}).get('records', 'unknown')} records"
    count = len(heldout) or int(content.get("heldout", {}).get("records", 0))
    return Evaluation(student, others, scored, count)


def _measured(row: Json, lines: dict[str, list[Line]], precision: str | None, folder: Path) -> Measured:
    task, metric = row["task"], row["metric"]
    settings = {name: str(row[name]) for name in SETTINGS if row.get(name) is not None}
    settings |= {"precision": precision} if precision else {}
    kind, _, part = task.partition("/")
    chosen = sorted((line for line in lines.get(kind, []) if _in_part(kind, part, line)), key=lambda line: line["id"])
    ratio = _ratio(kind, metric, chosen)
    if ratio is None:
        return Measured(float(row["value"]), settings, None)
    if not np.isclose(ratio.value, row["value"], rtol=1e-6, atol=1e-9, equal_nan=True):
        raise _damaged(folder, f"the items of {task} {metric} give {ratio.value:.6g}, its row says {row['value']:.6g}")
    return Measured(float(row["value"]), settings | {"items": _identity(chosen)}, ratio)


def _in_part(kind: str, part: str, line: Line) -> bool:
    """Whether an item belongs to `heldout/domain=code`, `retention/language`, `retention/code=rust`."""
    name, _, value = part.partition("=")
    if not part:
        return True
    if kind == "retention":
        return line["kind"] == name and (not value or line["name"] == value)
    return str(line.get(name)) == value


def _identity(lines: Sequence[Line]) -> str:
    """Hash of which items these are, and of their texts where the items say."""
    texts = sorted(f"{line['id']} {line.get('text_sha256', line.get('bytes', ''))}" for line in lines)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def _ratio(kind: str, metric: str, lines: Sequence[Line]) -> Ratio | None:
    """A quantity's numerators and denominators; None where nobody told how it is made or an item lacks it."""
    parts = PARTS.get((kind, metric))
    if parts is None or not lines:
        return None
    try:
        pairs = np.array([parts(line) for line in lines], dtype=np.float64)
    except KeyError:
        return None
    return Ratio(pairs[:, 0], pairs[:, 1])


def _damaged(folder: Path, what: str) -> DanteError:
    return DanteError(
        f"the evaluation is damaged: {what}",
        where=str(folder / "eval.json"),
        allowed="what the eval step writes",
        fix="evaluate the run again: only=eval on_existing=overwrite",
    )


def _per_token(field: str) -> Callable[[Line], Part]:
    return lambda line: (line[field][STUDENT], line["tokens"][STUDENT])


def _of_answer(field: str) -> Callable[[Line], Part]:
    return lambda line: (float(line["answers"][STUDENT][field]), 1.0)


def _bits(line: Line) -> Part:
    return line["bits"][STUDENT], line["bytes"]


def _length(line: Line) -> Part:
    written, wanted = (line["answers"][model]["text"] for model in (STUDENT, "teacher"))
    return len(written.encode()), len(wanted.encode())


# (first part of the task, metric) → numerator and denominator of one item.
PARTS: dict[Key, Callable[[Line], Part]] = {
    ("heldout", "bits_per_byte"): _bits,
    ("heldout", "top1_accuracy"): _per_token("top1"),
    ("heldout", "teacher_agreement"): _per_token("agree"),
    ("heldout", "kl_nats"): _per_token("kl_nats"),
    ("heldout", "entropy_nats"): _per_token("entropy_nats"),
    ("retention", "bits_per_byte"): _bits,
    ("generation", "stop_share"): _of_answer("stopped"),
    ("generation", "loop_share"): _of_answer("looped"),
    ("generation", "repetition"): _of_answer("repetition"),
    ("generation", "length_ratio"): _length,
    ("continuation", "acc"): lambda line: (float(line["picked"] == line["gold"]), 1.0),
    ("continuation", "acc_norm"): lambda line: (float(line["picked_norm"] == line["gold"]), 1.0),
}
