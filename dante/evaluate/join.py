"""Several models' directories → lines and paired differences: joined by id, only on equal texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from dante.cache import Record
from dante.errors import DanteError
from dante.evaluate.items import slices
from dante.evaluate.rows import bits_ratio, pair, retention_tasks
from dante.statistics.ratio import Ratio
from dante.system.files import read_json
from dante.system.jsonl import read_lines

Line = dict[str, Any]
# Differences worth an interval: what training bought, what is left to the teacher, what counting alone would give.
PAIRS = [
    ("student", "init"),
    ("student", "teacher"),
    ("student", "trigram"),
    ("student", "unigram"),
    ("init", "teacher"),
]


@dataclass(frozen=True)
class Measured:
    """What `dante.evaluate.one_model` wrote of one model."""

    scores: Line
    items: list[Line]
    retention: list[Line]
    generations: list[Line]

    @classmethod
    def read(cls, folder: Path) -> "Measured":
        """From its directory; parts that were not asked for are empty."""
        parts = (read_lines(folder / f"{part}.jsonl") for part in ("items", "retention", "generations"))
        return cls(read_json(folder / "scores.json"), *parts)


def item_lines(
    measured: Mapping[str, Measured],
    counted: Mapping[str, Float64[np.ndarray, "records"]],
    records: Sequence[Record],
) -> list[Line]:
    """Per held-out record: identity of its text, its bytes; of every model bits, tokens, hits, entropy, KL, agreement.

    Raises:
        DanteError: the models were measured on different texts.
    """
    tables = {name: {line["id"]: line for line in one.items} for name, one in measured.items()}
    lines = []
    for index, record in enumerate(records):
        own = {name: table[record.id] for name, table in tables.items() if record.id in table}
        if len(own) != len(tables) or len({line["text_sha256"] for line in own.values()}) != 1:
            raise DanteError(
                f"record {record.id} was not measured alike for {', '.join(tables)}",
                where="eval",
                fix="redo the evaluation: on_existing=overwrite",
            )
        first = next(iter(own.values()))
        lines.append(
            {key: first[key] for key in ("id", "domain", "language", "text_sha256", "bytes")}
            | {
                "bits": {name: line["bits"] for name, line in own.items()}
                | {name: float(bits[index]) for name, bits in counted.items()},
                "tokens": {name: line["tokens"] for name, line in own.items()},
                "top1": {name: line["top1"] for name, line in own.items()},
                "entropy_nats": {n: line["entropy_nats"] for n, line in own.items() if "entropy_nats" in line},
                "kl_nats": {name: line["kl_nats"] for name, line in own.items() if "kl_nats" in line},
                "agree": {name: line["agree"] for name, line in own.items() if "agree" in line},
            }
        )
    return lines


def fidelity_pairs(items: Sequence[Line], records: Sequence[Record], interval: Mapping[str, Any]) -> list[Line]:
    """Paired differences: bits per byte of all of `PAIRS`; of every other quantity, and per slice, student − init.

    A slice of a single item has no interval and is left out.
    """
    bits = _bits(items)
    per_token = {"top1_accuracy": "top1", "entropy_nats": "entropy_nats", "kl_nats": "kl_nats",
                 "teacher_agreement": "agree"}  # fmt: skip
    others = {metric: _per_token(items, field) for metric, field in per_token.items()}
    found = []
    for task, chosen in slices(records).items():
        if len(chosen) < 2:
            continue
        for a, b in PAIRS if task == "heldout" else PAIRS[:1]:
            if a in bits and b in bits:
                part = {name: bits[name].of(chosen) for name in (a, b)}
                found.append(pair(a, b, task, "bits_per_byte", part, interval))
    if len(items) > 1:
        for metric, ratios in others.items():
            if {"student", "init"} <= ratios.keys():
                found.append(pair("student", "init", "heldout", metric, ratios, interval))
    return found


def _bits(lines: Sequence[Line]) -> dict[str, Ratio]:
    """Bits per byte of every model that the lines hold."""
    text_bytes = [line["bytes"] for line in lines]
    return {name: bits_ratio([line["bits"][name] for line in lines], text_bytes) for name in lines[0]["bits"]}


def _per_token(items: Sequence[Line], field: str) -> dict[str, Ratio]:
    return {
        name: Ratio(
            np.array([item[field][name] for item in items], dtype=np.float64),
            np.array([item["tokens"][name] for item in items], dtype=np.float64),
        )
        for name in items[0][field]
    }


def retention_lines(measured: Mapping[str, Measured]) -> list[Line]:
    """Per retention text: its bytes and every model's bits."""
    tables = {name: {line["id"]: line for line in one.retention} for name, one in measured.items() if one.retention}
    first = next(iter(tables.values()), {})
    return [
        {key: line[key] for key in ("id", "kind", "name", "bytes")}
        | {"bits": {name: table[identity]["bits"] for name, table in tables.items()}}
        for identity, line in first.items()
    ]


def retention_pairs(lines: Sequence[Line], interval: Mapping[str, Any]) -> list[Line]:
    """Student − init on the retention texts: what training cost or gave there, in all and per slice."""
    if not lines or not {"student", "init"} <= lines[0]["bits"].keys():
        return []
    bits = _bits(lines)
    return [
        pair("student", "init", task, "bits_per_byte", {n: r.of(chosen) for n, r in bits.items()}, interval)
        for task, chosen in retention_tasks(lines).items()
        if len(chosen) > 1
    ]


def side_by_side(measured: Mapping[str, Measured], records: Mapping[str, Record]) -> list[Line]:
    """Per asked prompt: the teacher's text and every model's greedy answer (some may have answered fewer prompts)."""
    tables = {name: {line["id"]: line for line in one.generations} for name, one in measured.items() if one.generations}
    lines: list[Line] = []
    for identity in dict.fromkeys(key for table in tables.values() for key in table):
        record = records[identity]
        teacher = {"text": record.teacher_text, "tokens": None, "stopped": record.finish_reason == "stop"}
        answers = {name: _answer(table[identity]) for name, table in tables.items() if identity in table}
        lines.append({"id": identity, "domain": record.domain, "language": record.language,
                      "prompt": record.prompt, "answers": {"teacher": teacher} | answers})  # fmt: skip
    return lines


def _answer(line: Line) -> Line:
    return {key: value for key, value in line.items() if key != "id"}
