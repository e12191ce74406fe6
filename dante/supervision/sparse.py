"""Sparse teacher logits in files → targets of the supervised tokens of a batch, joined by record id.

The rows were made for the teacher's own tokens (`python -m dante.cache sparse`), so student and teacher have to share
tokenizer and template: that is compared by hash before the first step, and every record's text by its own. Ids beyond
the tokenizer's are padding of the teacher's head: their mass joins the tail, or, of drawn tokens, is left out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dante.cache import read_records
from dante.cache.records.record import Record, stable_hash
from dante.cache.sparse.kinds import Sparse
from dante.cache.sparse.sidecar import SparseLogits, how_to_make
from dante.errors import DanteError
from dante.losses.tokens import SparseTargets
from dante.students.stage import bake_template_variables
from dante.supervision.asked import Asked, MadeBefore
from dante.teachers.teacher import FILE_NAME, SOURCE, load_teacher
from dante.text.chat import ChatRenderer
from dante.text.rendering import Renderer
from dante.text.tokenizer import load_tokenizer
from dante.text.tokens.vocabularies import difference


class Cached(MadeBefore):
    """Files of sparse logits: of the recipe's step `logits`, beside the fit's cache, or in a folder of their own.

    Args:
        folder: where the files lie; None: in the fit's input `logits` if it has one, else beside the cache.
    """

    def __init__(self, folder: str | None) -> None:
        self.folder = folder

    def open(self, asked: Asked) -> "CachedSparse":
        """See `CachedSparse`.

        Raises:
            DanteError: there are none, they were made for another tokenizer or template, or a train record has none.
        """
        assert asked.kind is not None, "no loss of the fit reads sparse logits"
        folder = Path(self.folder) if self.folder is not None else asked.inputs.get("logits")
        return CachedSparse(
            asked.inputs["cache"],
            asked.kind,
            asked.renderer,
            folder,
            asked.inputs.get("teacher"),
            asked.records,
            asked.chat,
        )


def rendering_of(tokenizer: Any) -> str:
    """Hash of a tokenizer and its template, as files of sparse logits name those that they were made for."""
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
        renderer: of the student.
        folder: where the files lie; None: beside the cache.
        teacher: finished teacher step, which tells what is different; or None.
        wanted: ids of the train records that are asked for; None: all.
        chat: template variables that are the student's defaults: the teacher was asked with them.

    Raises:
        DanteError: there are none, they were made for another tokenizer or template, or a train record has none.
    """

    def __init__(
        self,
        cache: Path,
        kind: str,
        renderer: Renderer,
        folder: Path | None = None,
        teacher: Path | None = None,
        wanted: frozenset[str] | None = None,
        chat: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(renderer, ChatRenderer):
            raise DanteError(
                "kept logits are those of chats, and this fit renders plain text",
                where="fit.rendering",
                allowed="chat",
                fix="fit.rendering=chat, or a live teacher: loss=[raw_kl]",
            )
        self.logits = SparseLogits(folder or cache, kind)
        self.tokens = len(renderer.tokenizer)
        made_for = self.logits.header.tokenizer
        found = None if made_for == rendering_of(renderer.tokenizer) else _difference(made_for, teacher, renderer, chat)
        if found is not None:
            raise DanteError(
                f"the logits were made for another tokenizer or template than the student's: {found}",
                where=str(self.logits.directory),
                allowed="a student with the teacher's own tokenizer and chat template",
                fix="take such a student, or a loss that reads the teacher's text alone: loss=[ce]",
            )
        self.records = train_records(cache, wanted)
        missing = [identity for identity in self.records if identity not in self.logits]
        if missing:
            raise DanteError(
                f"{len(missing)} of {len(self.records)} train records have no {kind} logits, {missing[0]} is the first",
                where=str(self.logits.directory),
                fix=f"the same command goes on where it stopped: {how_to_make(cache, kind, folder)}",
            )

    def expect(self, record_ids: Sequence[str]) -> None:
        """Files are read when they are asked for: nothing has to begin."""

    def close(self) -> None:
        """Nothing is under way."""

    def targets(self, record_ids: Sequence[str], tokens: Sequence[int]) -> SparseTargets:
        """See `SparseProvider.targets`.

        Raises:
            DanteError: a record's rows are not as many, or were made for another text.
        """
        kept = [self._rows(identity, count) for identity, count in zip(record_ids, tokens, strict=True)]
        return joined(kept)

    def _rows(self, identity: str, count: int) -> Sparse:
        rows = self.logits.for_record(self.records[identity])
        if len(rows.ids) != count:
            raise DanteError(
                f"record {identity} has logits of {len(rows.ids)} tokens, and {count} are supervised",
                where=str(self.logits.directory),
                fix="delete the files and make the logits again",
            )
        return within(rows, self.tokens)


def train_records(cache: Path, wanted: frozenset[str] | None) -> dict[str, Record]:
    """The cache's train records by id; of all of them, or of those that are wanted."""
    records = read_records(cache, "train")
    return {record.id: record for record in records if wanted is None or record.id in wanted}


def within(rows: Sparse, tokens: int) -> Sparse:
    """Rows without the ids from `tokens` on, which are padding and no tokens: in the tail, or left out of the draws."""
    beyond = rows.ids >= tokens
    if not beyond.any():
        return rows
    mass = np.where(beyond, rows.probabilities, 0.0).sum(axis=1)
    kept = np.where(beyond, 0.0, rows.probabilities)
    drawn = rows.tail == 0  # what was drawn is a whole distribution, and stays one
    kept = np.where(drawn[:, None], kept / np.maximum(1.0 - mass, 1e-12)[:, None], kept)
    return Sparse(np.where(beyond, -1, rows.ids), kept, np.where(drawn, 0.0, rows.tail + mass))


def joined(parts: Sequence[Sparse]) -> SparseTargets:
    """Rows of several records, one after the other, as tensors."""
    width = max((rows.ids.shape[1] for rows in parts), default=0)
    empty = np.zeros((0, width))
    ids = [np.pad(r.ids, ((0, 0), (0, width - r.ids.shape[1])), constant_values=-1) for r in parts]
    shares = [np.pad(r.probabilities, ((0, 0), (0, width - r.probabilities.shape[1]))) for r in parts]
    return SparseTargets(
        torch.from_numpy(np.concatenate([empty.astype(np.int64), *ids])),
        torch.from_numpy(np.concatenate([empty, *shares]).astype(np.float32)),
        torch.from_numpy(np.concatenate([np.zeros(0), *(r.tail for r in parts)]).astype(np.float32)),
    )


def teachers_tokenizer(teacher: Path, chat: Mapping[str, Any] | None) -> Any:
    """Tokenizer and template of a finished teacher step, with the variables that are the student's defaults."""
    handle = load_teacher(teacher)
    tokenizer = load_tokenizer(handle.location(teacher), handle.revision, SOURCE)
    bake_template_variables(tokenizer, chat or {})
    return tokenizer


def _difference(
    made_for: str, teacher: Path | None, renderer: ChatRenderer, chat: Mapping[str, Any] | None
) -> str | None:
    """What differs, where the teacher is at hand; None where both render alike but for how variables are given."""
    if teacher is None or not (teacher / FILE_NAME).is_file():
        return f"theirs has the hash {made_for}"
    if rendering_of(teachers_tokenizer(teacher, None)) != made_for:
        return f"theirs has the hash {made_for}, and is not the teacher's of this run"
    return difference(teachers_tokenizer(teacher, chat), renderer.tokenizer)
