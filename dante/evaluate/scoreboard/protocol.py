"""What two numbers must share to be ranked: the comparability key, and the words for it.

Two measurements are ranked together only where every field of their `Protocol` is equal. A number out of a card is
ranked with them only where the card *states* every field of `STATED` and each is equal: what a card leaves open may be
anything. The split and the decoding follow from the harness's task and its version, so a card need not name those.

Versions of a harness count as one where the task did not change between them (`benchmarks.json`, "unchanged").
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
BENCHMARKS: Json = json.loads(Path(__file__).with_name("benchmarks.json").read_text(encoding="utf-8"))
# Fields that a published number must state, each equal, before it is ranked.
STATED = ("task", "metric", "variant", "task_version", "n_shot", "chat", "harness")


@dataclass(frozen=True)
class Protocol:
    """How a number was measured; equal for everything that is ranked together.

    Attributes:
        task: of the board, such as `arc_challenge_25shot`.
        metric: its key.
        variant: `cloze`, `plus`, or empty for the canonical benchmark.
        task_version: of the harness's task.
        split: of the data.
        n_shot: worked examples in the prompt.
        chat: whether the prompt was a chat turn.
        decoding: how the model was asked.
        harness: its name and the versions of it that count as one.
        limit: items asked when fewer than all; None: all.
        n: items that the number is over: "all" is not always the same.
        items: fingerprint of a subset's items, where they are known: two subsets of one size may differ.
        stand_in: what stood in for a part of the set, such as another split for worked examples; empty: nothing.
    """

    task: str
    metric: str
    variant: str
    task_version: str
    split: str
    n_shot: int
    chat: bool
    decoding: str
    harness: str
    limit: int | None
    n: int
    items: str = ""
    stand_in: str = ""

    def line(self, used: str) -> str:
        """`lm-eval 0.4.13, task version 1, 25-shot, test split, no chat template, greedy, exact_match, all 9 items`.

        Args:
            used: the harness with the version, or versions, that measured.
        """
        asked = f"{self.n:,} of the items only" if self.limit is not None else f"all {self.n:,} items"
        chat = "chat template" if self.chat else "no chat template"
        variant = [f"{self.variant} variant"] if self.variant else []
        parts = [used, f"task version {self.task_version}", f"{self.n_shot}-shot", f"{self.split} split", chat]
        instead = [self.stand_in] if self.stand_in else []
        return ", ".join([*parts, *variant, self.decoding, self.metric, asked, *instead])


def of_row(row: Mapping[str, Any], items: str) -> Protocol:
    """The protocol of a row of `eval.json`.

    Args:
        row: of a benchmark.
        items: fingerprint of its items, or empty.
    """
    task, limit = row["task"], row["limit"]
    return Protocol(
        task=task,
        metric=row["metric"],
        variant="",
        task_version=version(row["task_version"]),
        split=row["split"],
        n_shot=row["n_shot"],
        chat=row["chat"],
        decoding=row["decoding"],
        harness=harness_of(task, row["harness"], row["harness_version"]),
        limit=limit,
        n=row["n"],
        items="" if limit is None else items,
        stand_in=row.get("stand_in") or "",
    )


def fits(stated: Mapping[str, Any], protocol: Protocol) -> bool:
    """Whether what a card states makes its number one of this protocol; anything left open: no."""
    if protocol.limit is not None or protocol.stand_in or any(name not in stated for name in STATED):
        return False
    said = dict(stated) | {"harness": harness_of(stated["task"], stated["harness"], stated.get("harness_version", ""))}
    return all(getattr(protocol, name) in _accepted(name, said[name]) for name in STATED)


def _accepted(name: str, value: Any) -> list[Any]:
    """The values that are meant, of which a card's reader may have written several."""
    values = value if isinstance(value, list) else [value]
    return [version(one) if name == "task_version" else one for one in values]


def version(text: str) -> str:
    """`1.0` and `1` are one version."""
    return re.sub(r"(?<=\d)\.0+$", "", text)


def harness_of(task: str, harness: str, harness_version: str) -> str:
    """`lm-eval 0.4.5 to 0.4.13` where the task is the same in all of these, else the harness and its one version."""
    for same in BENCHMARKS["unchanged"]:
        if harness == same["harness"] and task in same["tasks"] and _between(harness_version, same):
            return f"{harness} {same['from']} to {same['to']}"
    return f"{harness} {harness_version}".strip()


def _between(text: str, same: Json) -> bool:
    place, first, last = (_numbers(one) for one in (text, same["from"], same["to"]))
    return place is not None and first is not None and last is not None and first <= place <= last


def _numbers(text: str) -> tuple[int, ...] | None:
    """`0.4.13` as numbers; None for anything that is no plain release."""
    return tuple(map(int, text.split("."))) if re.fullmatch(r"\d+(\.\d+)*", text) else None
