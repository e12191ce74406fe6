"""Answers that repeat themselves: paragraphs, sentences, n-grams (kinds: DASD §3 [C]; thresholds: ours [I])."""

import re
from collections import Counter

from dante.cache.filters.base import OneByOne
from dante.cache.records.record import Record
from dante.errors import DanteError
from dante.text.sentences import sentences
from dante.text.words import words

PARAGRAPHS = re.compile(r"\n\s*\n")
# Shorter ones recur in honest texts: "Yes.", "}", list markers.
LEAST_CHARACTERS = 20


class Repeated(OneByOne):
    """Leaves out answers in which a paragraph or a sentence recurs, or too many n-grams of words do.

    Args:
        paragraphs: how often one paragraph may stand in an answer; null does not look.
        sentences: how often one sentence may; null does not look.
        ngram: words of an n-gram.
        ngram_share: largest share of an answer's n-grams that stood in it before; null does not look.
    """

    name = "repeated"

    def __init__(self, paragraphs: int | None, sentences: int | None, ngram: int, ngram_share: float | None) -> None:
        if ngram < 1:
            raise DanteError(f"ngram={ngram}", where="cache.source.filters", allowed="at least 1")
        self.paragraphs, self.sentences, self.ngram, self.ngram_share = paragraphs, sentences, ngram, ngram_share

    def reason(self, record: Record) -> str | None:
        text = record.teacher_text
        for what, limit, pieces in (
            ("paragraph", self.paragraphs, PARAGRAPHS.split(text)),
            ("sentence", self.sentences, [text[start:end] for start, end in sentences(text)]),
        ):
            if limit is not None and _most(pieces) > limit:
                return f"repeated {what}"
        text_words = words(text)
        total = len(text_words) - self.ngram + 1
        if self.ngram_share is None or total < 1:
            return None
        grams = {tuple(text_words[i : i + self.ngram]) for i in range(total)}
        return f"repeated {self.ngram}-grams" if 1 - len(grams) / total > self.ngram_share else None


def _most(pieces: list[str]) -> int:
    """How often the most frequent piece of some length occurs."""
    counts = Counter(piece.strip() for piece in pieces if len(piece.strip()) >= LEAST_CHARACTERS)
    return max(counts.values(), default=0)
