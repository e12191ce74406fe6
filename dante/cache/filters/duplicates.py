"""Answers that are there already: the same ones, and nearly the same ones."""

import unicodedata
from typing import Any

from dante.cache.filters.base import Dropped
from dante.cache.records.record import Record, prompt_hash
from dante.errors import DanteError
from dante.text.words import words

# What LSH misses is never compared, what it proposes wrongly is: so misses weigh more when its bands are chosen.
LSH_WEIGHTS = (0.05, 0.95)


class ExactDuplicates:
    """Leaves out all but the first of records with the same prompt and the same answer, whatever its white space.

    Signs and case count: `-5` is another answer than `5`, and `a < b` another one than `a > b`.
    """

    name = "exact_duplicates"

    def split(self, records: list[Record]) -> tuple[list[Record], list[Dropped]]:
        first: dict[str, str] = {}
        kept, dropped = [], []
        for record in records:
            answer = " ".join(unicodedata.normalize("NFC", record.teacher_text).split())
            key = prompt_hash(record.prompt, answer)
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
    same prompt are not compared unless asked: candidates of one prompt are wanted. Answers without any word (a row of
    signs) are nobody's duplicates.

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
        if ngram < 1 or permutations < 16:
            raise DanteError(
                f"ngram={ngram}, permutations={permutations}",
                where="cache.source.filters",
                allowed="at least 1 word and 16 permutations",
            )
        self.threshold, self.ngram, self.permutations = threshold, ngram, permutations
        self.seed, self.same_prompt = seed, same_prompt

    def split(self, records: list[Record]) -> tuple[list[Record], list[Dropped]]:
        from datasketch import MinHash, MinHashLSH

        index = MinHashLSH(threshold=self.threshold, num_perm=self.permutations, weights=LSH_WEIGHTS)
        seen: dict[str, tuple[Any, str]] = {}
        kept, dropped = [], []
        for record in records:
            grams = self._ngrams(record.teacher_text)
            if not grams:
                kept.append(record)
                continue
            sketch = MinHash(num_perm=self.permutations, seed=self.seed)
            sketch.update_batch(grams)
            prompt = prompt_hash(record.prompt)
            near = [
                (seen[i][0].jaccard(sketch), i) for i in index.query(sketch) if self.same_prompt or seen[i][1] != prompt
            ]
            best = max((pair for pair in near if pair[0] >= self.threshold), default=None)
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
        text_words = words(text)
        count = max(1, len(text_words) - self.ngram + 1) if text_words else 0
        return [" ".join(text_words[i : i + self.ngram]).encode("utf-8") for i in range(count)]
