"""What a filter is, and how several are applied: what each dropped goes into a manifest, with reasons and examples."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from dante.cache.records.record import Record

EXAMPLE_CHARACTERS = 200


class Dropped(NamedTuple):
    """A record that a filter leaves out, and why."""

    record: Record
    reason: str


@runtime_checkable
class Filter(Protocol):
    """Leaves records out.

    Attributes:
        name: in the manifest.
    """

    name: str

    def split(self, records: list[Record]) -> tuple[list[Record], list[Dropped]]:
        """What is kept, in order, and what is left out."""
        ...

    def settings(self) -> dict[str, Any]:
        """What decides which records it leaves out; for the manifest."""
        ...


class OneByOne:
    """A filter that looks at each record alone: subclasses say why one is left out."""

    def reason(self, record: Record) -> str | None:
        """Why this record is left out; None keeps it."""
        raise NotImplementedError

    def split(self, records: list[Record]) -> tuple[list[Record], list[Dropped]]:
        kept, dropped = [], []
        for record in records:
            why = self.reason(record)
            if why is None:
                kept.append(record)
            else:
                dropped.append(Dropped(record, why))
        return kept, dropped

    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


def apply_all(
    records: list[Record], filters: Sequence[Filter], examples: int
) -> tuple[list[Record], list[dict[str, Any]]]:
    """The records that every filter keeps, and per filter what it dropped.

    Args:
        records: in the cache's order.
        filters: each sees what the ones before it kept.
        examples: records of each that are shown in the manifest.
    """
    reports = []
    for record_filter in filters:
        records, dropped = record_filter.split(records)
        shown = [
            {"id": d.record.id, "reason": d.reason, "text": d.record.teacher_text[:EXAMPLE_CHARACTERS]}
            for d in dropped[:examples]
        ]
        # A reason may name a record or an item behind a colon; what is counted stands before it.
        reasons = Counter(d.reason.split(":")[0] for d in dropped)
        reports.append(
            {
                "name": record_filter.name,
                "settings": record_filter.settings(),
                "dropped": len(dropped),
                "reasons": dict(sorted(reasons.items())),
                "examples": shown,
            }
        )
        more = getattr(record_filter, "report", None)
        if more:
            reports[-1]["report"] = more
    return records, reports
