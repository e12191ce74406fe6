"""Leaves out records that hold a piece of an evaluation set.

A record is contaminated when 13 words in a row of an evaluation item stand in its prompt or its answer (13-grams as in
GPT-3's appendix C [C]; words as `dante.text.words` has them, so that case, punctuation and layout do not hide a copy
[I]). Items of 8 to 12 words are looked for whole; shorter ones are everybody's language and not looked for [I].
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from dante.cache.filters.base import Dropped
from dante.cache.filters.evaluation_sets import EvaluationSet
from dante.cache.records.record import Record
from dante.errors import DanteError
from dante.text.words import words

LEAST_WORDS = 8
EXAMPLES = 5

Gram = tuple[str, ...]


class _Place(NamedTuple):
    """Where an n-gram stands in the evaluation sets."""

    set: str
    item: str


class _Index:
    """N-grams of all items, each with every place where it stands: sets share texts, and each has to be told.

    Items shorter than an n-gram are found by their first words, so that a record is passed over twice at most and not
    once per length.
    """

    def __init__(self, ngram: int) -> None:
        self.ngram = ngram
        self.grams: defaultdict[Gram, set[_Place]] = defaultdict(set)
        self.short: defaultdict[Gram, dict[Gram, set[_Place]]] = defaultdict(dict)

    def add(self, place: _Place, text: str) -> bool:
        """Whether the text is long enough to be looked for."""
        text_words = words(text)
        if len(text_words) < LEAST_WORDS:
            return False
        if len(text_words) < self.ngram:
            self.short[tuple(text_words[:LEAST_WORDS])].setdefault(tuple(text_words), set()).add(place)
        for start in range(len(text_words) - self.ngram + 1):
            self.grams[tuple(text_words[start : start + self.ngram])].add(place)
        return True

    def find(self, text: str) -> dict[_Place, Gram]:
        """Every place that the text shares an n-gram (or a whole short item) with, and the first one shared."""
        there = words(text)
        gram_by_place: dict[_Place, Gram] = {}
        for start in range(len(there) - self.ngram + 1):
            gram = tuple(there[start : start + self.ngram])
            for place in self.grams.get(gram, ()):
                gram_by_place.setdefault(place, gram)
        if self.short:
            for start in range(len(there) - LEAST_WORDS + 1):
                for gram, places in self.short.get(tuple(there[start : start + LEAST_WORDS]), {}).items():
                    if tuple(there[start : start + len(gram)]) == gram:
                        for place in places:
                            gram_by_place.setdefault(place, gram)
        return gram_by_place


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
        self._sets = {name: evaluation_set for name, evaluation_set in sets.items() if evaluation_set is not None}
        # Per set: how many texts it has and how many are too short to be looked for, contaminated records, the items
        # that they hold (with how many records hold each), and examples.
        self.report: dict[str, dict[str, Any]] = {}

    def split(self, records: list[Record]) -> tuple[list[Record], list[Dropped]]:
        index, reports = self._read()
        items: dict[str, Counter[str]] = {name: Counter() for name in self._sets}
        kept, dropped = [], []
        for record in records:
            gram_by_place: dict[_Place, Gram] = {}
            for text in (_asked(record), record.teacher_text):
                gram_by_place = index.find(text) | gram_by_place
            if not gram_by_place:
                kept.append(record)
                continue
            by_set: dict[str, tuple[str, str]] = {}
            for place, gram in sorted(gram_by_place.items()):
                items[place.set][place.item] += 1
                by_set.setdefault(place.set, (place.item, " ".join(gram)))
            for name, (item, gram_text) in by_set.items():
                reports[name]["records"] += 1
                if len(reports[name]["examples"]) < EXAMPLES:
                    reports[name]["examples"].append({"id": record.id, "item": item, "ngram": gram_text})
            item, gram_text = next(iter(by_set.values()))
            dropped.append(Dropped(record, f"{', '.join(by_set)}: {item}, “{gram_text}”"))
        for name, counts in items.items():
            reports[name]["items"] = dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
        self.report = reports
        return kept, dropped

    def settings(self) -> dict[str, Any]:
        return {
            "ngram": self.ngram,
            "sets": {name: evaluation_set.describe() for name, evaluation_set in self._sets.items()},
        }

    def _read(self) -> tuple[_Index, dict[str, dict[str, Any]]]:
        index = _Index(self.ngram)
        reports: dict[str, dict[str, Any]] = {}
        for name, evaluation_set in self._sets.items():
            looked_for = [index.add(_Place(name, item), text) for item, text in evaluation_set.items()]
            if not looked_for:
                raise DanteError(
                    f"the evaluation set {name!r} has no texts: nothing could be found in the records",
                    where="cache.source.filters",
                    fix="correct its file or fields, or switch it off with null",
                )
            reports[name] = {
                "texts": len(looked_for),
                "too_short": looked_for.count(False),
                "records": 0,
                "items": {},
                "examples": [],
            }
        return index, reports


def _asked(record: Record) -> str:
    return record.prompt if isinstance(record.prompt, str) else "\n".join(m["content"] for m in record.prompt)
