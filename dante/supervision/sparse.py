"""Sparse teacher logits beside a cache → targets of the supervised tokens of a batch, joined by record id.

The rows were made for the teacher's own tokens (`python -m dante.cache sparse`), so student and teacher have to share
tokenizer and template: that is compared by hash before the first step, and every record's text by its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dante.cache import read_records
from dante.cache.records.record import Record, stable_hash
from dante.cache.sparse.sidecar import SparseLogits, how_to_make
from dante.errors import DanteError
from dante.losses.tokens import SparseTargets
from dante.text.chat import ChatRenderer


def rendering_of(renderer: ChatRenderer) -> str:
    """Hash of a tokenizer and its template, as files of sparse logits name those that they were made for."""
    tokenizer: Any = renderer.tokenizer
    hashes = {
        "tokenizer": stable_hash(tokenizer.backend_tokenizer.to_str()),
        "chat_template": stable_hash(tokenizer.chat_template),
    }
    return stable_hash(hashes)


class CachedSparse:
    """What the teacher's distributions were kept as, for the train records of one cache.

    Args:
        cache: finished cache directory.
        kind: `topk_tail` or `random_sampling`.
        rendering: of the student, see `rendering_of`.
        folder: where the files lie; None: beside the cache.

    Raises:
        DanteError: there are none, they were made for another tokenizer or template, or a train record has none.
    """

    def __init__(self, cache: Path, kind: str, rendering: str, folder: Path | None = None) -> None:
        self.logits = SparseLogits(folder or cache, kind)
        made_for = self.logits.header.tokenizer
        if made_for != rendering:
            raise DanteError(
                f"the logits were made for the tokenizer and template {made_for}, the student has {rendering}",
                where=str(self.logits.directory),
                allowed="a student with the teacher's own tokenizer and chat template",
                fix="take such a student, or a loss that reads the teacher's text alone",
            )
        self.records: dict[str, Record] = {record.id: record for record in read_records(cache, "train")}
        missing = [identity for identity in self.records if identity not in self.logits]
        if missing:
            raise DanteError(
                f"{len(missing)} of {len(self.records)} train records have no {kind} logits, {missing[0]} is the first",
                where=str(self.logits.directory),
                fix=f"the same command goes on where it stopped: {how_to_make(cache, kind, folder)}",
            )

    def targets(self, record_ids: Sequence[str], tokens: Sequence[int]) -> SparseTargets:
        """The targets of some records, one after the other.

        Args:
            record_ids: as the cache names them.
            tokens: supervised tokens of each.

        Raises:
            DanteError: a record's rows are not as many, or were made for another text.
        """
        kept = [self.logits.for_record(self.records[identity]) for identity in record_ids]
        for identity, rows, count in zip(record_ids, kept, tokens, strict=True):
            if len(rows.ids) != count:
                raise DanteError(
                    f"record {identity} has logits of {len(rows.ids)} tokens, and {count} are supervised",
                    where=str(self.logits.directory),
                    fix="delete the files and make the logits again",
                )
        width = max((rows.ids.shape[1] for rows in kept), default=0)
        empty = np.zeros((0, width))
        ids = [np.pad(r.ids, ((0, 0), (0, width - r.ids.shape[1])), constant_values=-1) for r in kept]
        shares = [np.pad(r.probabilities, ((0, 0), (0, width - r.probabilities.shape[1]))) for r in kept]
        return SparseTargets(
            torch.from_numpy(np.concatenate([empty.astype(np.int64), *ids])),
            torch.from_numpy(np.concatenate([empty, *shares]).astype(np.float32)),
            torch.from_numpy(np.concatenate([np.zeros(0), *(r.tail for r in kept)]).astype(np.float32)),
        )
