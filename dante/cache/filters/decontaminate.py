"""Leaves out records that hold a piece of an evaluation set.

A record is contaminated when 13 words in a row of an evaluation item stand in its prompt or its answer (13-grams as in
GPT-3's appendix C [C]; words are lower-case runs of letters and digits, so that punctuation and layout do not hide a
copy [I]). Items of 8 to 12 words are looked for whole; shorter ones are everybody's language and not looked for [I].
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dante.cache.filters.base import Dropped
from dante.cache.filters.evaluation_sets import EvaluationSet
from dante.cache.record import Record
from dante.errors import DanteError

WORDS = re.compile(r"[^\W_]+")
LEAST_WORDS = 8


class _Place(NamedTuple):
    """Where an n-gram stands in an evaluation set."""

    set: str
    item: str


class Decontaminate:
    """Looks for the n-grams of evaluation sets in every record's prompt and answer.

    Args:
        sets: evaluation sets by name; null switches one off.
        ngram: words that have to agree in a row.
    """

    name = "decontaminate"

    def __init__(self, sets: Mapping[str, EvaluationSet | None], ngram: int) -> None:
        if ngram < LEAST_WORDS:
            raise DanteError(f"ngram={ngram}", where="cache.source.filters", allowed=f"at least {LEAST_WORDS}")
        self.ngram = ngram
        self._sets = {name: one for name, one in sets.items() if one is not None}
        self.report: dict[str, dict[str, Any]] = {}

    def split(self, records: list[Record]) -> tuple[list[Record], list[Dropped]]:
        places = self._places()
        lengths = sorted({len(gram) for gram in places})
        hits: dict[str, Counter[str]] = {name: Counter() for name in self._sets}
        kept, dropped = [], []
        for record in records:
            found = next(self._found(record, places, lengths), None)
            if found is None:
                kept.append(record)
                continue
            place, gram = found
            hits[place.set][place.item] += 1
            dropped.append(Dropped(record, f"{place.set}: {place.item}, “{' '.join(gram)}”"))
        self.report = {
            name: {"records": sum(items.values()), "items": len(items), "most": dict(items.most_common(5))}
            for name, items in hits.items()
        }
        return kept, dropped

    def settings(self) -> dict[str, Any]:
        return {"ngram": self.ngram, "sets": {name: type(one).__name__ for name, one in self._sets.items()}}

    def _places(self) -> dict[tuple[str, ...], _Place]:
        places: dict[tuple[str, ...], _Place] = {}
        for name, one in self._sets.items():
            for item, text in one.items():
                words = WORDS.findall(text.lower())
                if len(words) < LEAST_WORDS:
                    continue
                size = min(self.ngram, len(words))
                for start in range(len(words) - size + 1):
                    places.setdefault(tuple(words[start : start + size]), _Place(name, item))
        return places

    def _found(
        self, record: Record, places: Mapping[tuple[str, ...], _Place], lengths: list[int]
    ) -> Iterator[tuple[_Place, tuple[str, ...]]]:
        asked = record.prompt if isinstance(record.prompt, str) else "\n".join(m["content"] for m in record.prompt)
        for text in (asked, record.teacher_text):
            words = WORDS.findall(text.lower())
            for size in lengths:
                for start in range(len(words) - size + 1):
                    gram = tuple(words[start : start + size])
                    if gram in places:
                        yield places[gram], gram
