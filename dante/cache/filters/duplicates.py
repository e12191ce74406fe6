"""Answers that are there already: the same ones, and nearly the same ones."""

import re
from typing import Any

from dante.cache.filters.base import Dropped
from dante.cache.record import Record, stable_hash
from dante.errors import DanteError

WORDS = re.compile(r"\w+")


class ExactDuplicates:
    """Leaves out all but the first of records with the same prompt and the same words in the answer."""

    name = "exact_duplicates"

    def split(self, records: list[Record]) -> tuple[list[Record], list[Dropped]]:
        first: dict[str, str] = {}
        kept, dropped = [], []
        for record in records:
            key = stable_hash(record.prompt, _words(record.teacher_text))
            if key in first:
                dropped.append(Dropped(record, f"duplicate: of {first[key]}"))
            else:
                first[key] = record.id
                kept.append(record)
        return kept, dropped

    def settings(self) -> dict[str, Any]:
        return {}


class NearDuplicates:
    """Leaves out answers whose word n-grams are nearly those of an earlier record (MinHash with LSH, Broder 1997 [C]).

    Similarity is Jaccard's over the set of n-grams, estimated from `permutations` hashes; candidates that LSH proposes
    are compared by that estimate, so that none below the threshold is left out for its band alone. Other samples of the
    same prompt are not compared unless asked: candidates of one prompt are wanted.

    Args:
        threshold: least similarity of a duplicate.
        ngram: words of an n-gram; a shorter answer is one n-gram.
        permutations: hashes; the estimate's standard error is at most 0.5 / √permutations.
        seed: of the hashes.
        same_prompt: compare answers to the same prompt, too.
    """

    name = "near_duplicates"

    def __init__(self, threshold: float, ngram: int, permutations: int, seed: int, same_prompt: bool) -> None:
        if not 0 < threshold <= 0.95:  # LSH has no bands beyond
            raise DanteError(f"threshold={threshold}", where="cache.source.filters", allowed="above 0, at most 0.95")
        self.threshold, self.ngram, self.permutations = threshold, ngram, permutations
        self.seed, self.same_prompt = seed, same_prompt

    def split(self, records: list[Record]) -> tuple[list[Record], list[Dropped]]:
        from datasketch import MinHash, MinHashLSH

        index = MinHashLSH(threshold=self.threshold, num_perm=self.permutations)
        seen: dict[str, tuple[Any, str]] = {}
        kept, dropped = [], []
        for record in records:
            sketch = MinHash(num_perm=self.permutations, seed=self.seed)
            sketch.update_batch(self._ngrams(record.teacher_text))
            prompt = stable_hash(record.prompt)
            near = [
                (seen[i][0].jaccard(sketch), i) for i in index.query(sketch) if self.same_prompt or seen[i][1] != prompt
            ]
            best = max(
                ((s, i) for s, i in near if s >= self.threshold), key=lambda pair: (pair[0], pair[1]), default=None
            )
            if best is not None:
                dropped.append(Dropped(record, f"near duplicate: of {best[1]}, similarity {best[0]:.2f}"))
                continue
            kept.append(record)
            seen[record.id] = (sketch, prompt)
            index.insert(record.id, sketch)
        return kept, dropped

    def settings(self) -> dict[str, Any]:
        return dict(vars(self))

    def _ngrams(self, text: str) -> list[bytes]:
        words = _words(text)
        count = max(1, len(words) - self.ngram + 1)
        return [" ".join(words[i : i + self.ngram]).encode("utf-8") for i in range(count)]


def _words(text: str) -> list[str]:
    return WORDS.findall(text.lower())
