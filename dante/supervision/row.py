"""A packed row as a teacher runs it: the student's own, on another device, or some of its documents."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from dante.students.backbone import SupervisedRow


@dataclass(frozen=True)
class TeacherRow:
    """See `dante.data.batch.MicroBatch`, whose fields these are."""

    input_ids: Int64[Tensor, "1 row_tokens"]
    position_ids: Int64[Tensor, "1 row_tokens"]
    positions: Int64[Tensor, " supervised"]
    document_tokens: tuple[int, ...]
    document_ends: Int32[Tensor, " documents_and_zero"] | None

    def to(self, device: torch.device) -> "TeacherRow":
        """The same row on `device`."""
        ends = self.document_ends
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            position_ids=self.position_ids.to(device),
            positions=self.positions.to(device),
            document_ends=ends.to(device) if ends is not None else None,
        )


def on_device(row: SupervisedRow, device: torch.device) -> TeacherRow:
    """The row on another device."""
    whole = TeacherRow(row.input_ids, row.position_ids, row.positions, row.document_tokens, row.document_ends)
    return whole.to(device)


def documents_of(row: SupervisedRow, chosen: Sequence[int]) -> TeacherRow:
    """Some documents of a row, in their order, as a row of their own; none make an empty row of one token.

    Args:
        row: it says how long its documents are.
        chosen: numbers of documents, rising.
    """
    lengths = [row.document_tokens[number] for number in chosen]
    device = row.input_ids.device
    starts = torch.tensor([0, *row.document_tokens]).cumsum(0)
    parts = [torch.arange(int(starts[number]), int(starts[number + 1])) for number in chosen]
    kept = (torch.cat(parts) if parts else torch.zeros(1, dtype=torch.int64)).to(device)
    # Where each of the row's tokens lies among the kept ones; −1: left out.
    place = torch.full((row.input_ids.shape[1],), -1, dtype=torch.int64, device=device)
    place[kept] = torch.arange(len(kept), device=device)
    positions = place[row.positions] if parts else row.positions[:0]
    ends = torch.tensor([0, *lengths] if parts else [0, 1], dtype=torch.int32, device=device)
    return TeacherRow(
        row.input_ids[:, kept],
        row.position_ids[:, kept],
        positions[positions >= 0],
        tuple(lengths) or (1,),
        ends.cumsum(0, dtype=torch.int32),
    )
