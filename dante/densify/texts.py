"""Answers of a cache as token ids: what a teacher reads so that its layers can be looked at."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dante import console
from dante.cache.records.reader import read_records
from dante.cache.records.record import stable_hash
from dante.errors import DanteError
from dante.text.chat import ChatRenderer


@dataclass(frozen=True)
class Texts:
    """Some train records of a cache.

    Attributes:
        records: their ids.
        ids: token ids of each, in the teacher's template.
    """

    records: list[str]
    ids: list[Tensor]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.ids))


def train_texts(cache: Path, renderer: ChatRenderer, tokens: int, max_tokens: int, seed: int) -> Texts:
    """Train records in an order of the seed's, up to a number of tokens; where there are fewer, all, and that is told.

    Args:
        cache: finished cache directory.
        renderer: of who reads them.
        tokens: together.
        max_tokens: of one record; the rest is cut off.
        seed: of the order.

    Raises:
        DanteError: the cache has no train records.
    """
    records = sorted(read_records(cache, "train"), key=lambda record: stable_hash(seed, record.id))
    if not records:
        raise DanteError("the cache has no train records", where=str(cache), fix="give it some: cache=given")
    texts, left = Texts([], []), tokens
    for record in records:
        ids = renderer.render(record.prompt, record.teacher_text).input_ids[:max_tokens][:left]
        texts.records.append(record.id)
        texts.ids.append(torch.tensor(ids))
        left -= len(ids)
        if not left:
            return texts
    console.note(f"the cache's train records have {texts.tokens:,} tokens, not {tokens:,}: all are read")
    return texts
