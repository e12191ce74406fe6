"""Several teachers: each of the records whose field names it, or all of every record, averaged with weights.

What stands in `teachers` are parts like those that stand alone in `supervision`: live models, files, servers; and
several again. By field every record has one teacher. Averaged, the target is the mixture Σ w_k p_k of probabilities
[I: the mean of distributions, not of logits], for sparse targets on the union of what any teacher kept
(`dante.supervision.mixture`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh

from dante.losses.tokens import SparseTargets
from dante.losses.vocabulary.teacher import AveragedLogits, ChosenLogits
from dante.students.backbone import SupervisedRow
from dante.supervision.asked import Asked, LiveSource, LiveTeacher, SparseProvider, SparseSource
from dante.supervision.choice import check_field, checked_shares, teacher_of_record
from dante.supervision.mixture import interleaved, mixed
from dante.supervision.row import documents_of


class _Several:
    """What several teachers cost is what each costs."""

    teachers: dict[str, Any]  # a part may stand in either of the two seats

    def scoring_inputs(self) -> list[str]:
        """See `Source`. Teachers by field are charged for every draw each: the most that it can cost."""
        return _once([name for teacher in self.teachers.values() for name in teacher.scoring_inputs()])

    def resident_inputs(self) -> list[str]:
        """See `Source`."""
        return _once([name for teacher in self.teachers.values() for name in teacher.resident_inputs()])


class LiveByField(_Several):
    """Teachers beside the student, each of the records whose field has its name.

    Args:
        field: `domain`, `language` or `family`.
        teachers: value of the field → part; `"*"`: of all values that are not named.

    Raises:
        DanteError: another field, or no teacher.
    """

    def __init__(self, field: str, teachers: dict[str, Any]) -> None:
        check_field(field, teachers, "supervision.teacher_logits")
        self.field, self.teachers = field, teachers

    def open(self, asked: Asked) -> "ByRecord":
        """See `LiveSource`.

        Raises:
            DanteError: train records whose value names no teacher, or a part refuses.
        """
        of_record = teacher_of_record(asked, self.field, self.teachers)
        return ByRecord(_live(self.teachers, asked), of_record)


class LiveAveraged(_Several):
    """Teachers beside the student whose distributions are averaged.

    Args:
        teachers: name → part.
        weights: name → weight above 0; they are divided by their sum.

    Raises:
        DanteError: weights for other teachers than those named, or one that is not above 0.
    """

    def __init__(self, teachers: dict[str, Any], weights: dict[str, float]) -> None:
        self.shares = checked_shares(weights, teachers, "supervision.teacher_logits")
        self.teachers = teachers

    def open(self, asked: Asked) -> "Together":
        """See `LiveSource`."""
        return Together(_live(self.teachers, asked), self.shares)


class SparseByField(_Several):
    """Sparse targets of several teachers, each of the records whose field has its name; see `LiveByField`."""

    def __init__(self, field: str, teachers: dict[str, Any]) -> None:
        check_field(field, teachers, "supervision.sparse")
        self.field, self.teachers = field, teachers

    def open(self, asked: Asked) -> "SparseByRecord":
        """See `SparseSource`; a part is asked for its own records alone.

        Raises:
            DanteError: train records whose value names no teacher, or a part refuses.
        """
        of_record = teacher_of_record(asked, self.field, self.teachers)
        own: dict[str, set[str]] = defaultdict(set)
        for identity, name in of_record.items():
            own[name].add(identity)
        wanted = {name: frozenset(own[name]) for name in self.teachers}
        return SparseByRecord(_sparse(self.teachers, asked, wanted), of_record)


class SparseAveraged(_Several):
    """Sparse targets of several teachers, averaged; see `LiveAveraged`."""

    def __init__(self, teachers: dict[str, Any], weights: dict[str, float]) -> None:
        self.shares = checked_shares(weights, teachers, "supervision.sparse")
        self.teachers = teachers

    def open(self, asked: Asked) -> "SparseTogether":
        """See `SparseSource`."""
        return SparseTogether(_sparse(self.teachers, asked, {}), self.shares)


class _AllLive:
    """Live teachers that run side by side.

    Args:
        teachers: by name; every rank has them in the same order.
    """

    def __init__(self, teachers: Mapping[str, LiveTeacher]) -> None:
        self.teachers = dict(teachers)

    def place(self, device: torch.device, mesh: DeviceMesh | None) -> None:
        """See `LiveTeacher.place`."""
        for teacher in self.teachers.values():
            teacher.place(device, mesh)


class ByRecord(_AllLive):
    """See `LiveByField`.

    Args:
        teachers: by name.
        of_record: record id → name of its teacher.
    """

    def __init__(self, teachers: Mapping[str, LiveTeacher], of_record: Mapping[str, str]) -> None:
        super().__init__(teachers)
        self.of_record = of_record

    def logits(self, row: SupervisedRow, record_ids: Sequence[str]) -> ChosenLogits:
        """See `LiveTeacher.logits`. Every teacher runs, also without a document of its own: weights that are spread
        are gathered by all ranks together, and another rank's row may have one."""
        device = row.positions.device
        mine = [[n for n, i in enumerate(record_ids) if self.of_record[i] == name] for name in self.teachers]
        said = [
            teacher.logits(documents_of(row, chosen), [record_ids[n] for n in chosen])
            for teacher, chosen in zip(self.teachers.values(), mine, strict=True)
        ]
        number_of = [next(k for k, chosen in enumerate(mine) if n in chosen) for n in range(len(record_ids))]
        ends = torch.tensor(row.document_tokens).cumsum(0).to(device)
        document = torch.bucketize(row.positions, ends, right=True)
        chosen_T = torch.tensor(number_of, dtype=torch.int64, device=device)[document]
        own_TK = chosen_T[:, None] == torch.arange(len(said), device=device)
        places_T = (own_TK.cumsum(0) - 1).gather(1, chosen_T[:, None])[:, 0]
        return ChosenLogits(said, places_T, chosen_T)


class Together(_AllLive):
    """See `LiveAveraged`.

    Args:
        teachers: by name.
        shares: theirs, which sum to one.
    """

    def __init__(self, teachers: Mapping[str, LiveTeacher], shares: Mapping[str, float]) -> None:
        super().__init__(teachers)
        self.shares = [shares[name] for name in self.teachers]

    def logits(self, row: SupervisedRow, record_ids: Sequence[str]) -> AveragedLogits:
        """See `LiveTeacher.logits`."""
        return AveragedLogits([teacher.logits(row, record_ids) for teacher in self.teachers.values()], self.shares)


class _AllSparse:
    """Providers of sparse targets side by side."""

    def __init__(self, teachers: Mapping[str, SparseProvider]) -> None:
        self.teachers = dict(teachers)

    def close(self) -> None:
        """See `SparseProvider.close`."""
        for teacher in self.teachers.values():
            teacher.close()


class SparseByRecord(_AllSparse):
    """See `SparseByField`; arguments as of `ByRecord`."""

    def __init__(self, teachers: Mapping[str, SparseProvider], of_record: Mapping[str, str]) -> None:
        super().__init__(teachers)
        self.of_record = of_record

    def expect(self, record_ids: Sequence[str]) -> None:
        """See `SparseProvider.expect`: each is told of its own."""
        for name, teacher in self.teachers.items():
            teacher.expect([identity for identity in record_ids if self.of_record[identity] == name])

    def targets(self, record_ids: Sequence[str], tokens: Sequence[int]) -> SparseTargets:
        """See `SparseProvider.targets`."""
        owner = [self.of_record[identity] for identity in record_ids]
        per_token = [name for name, count in zip(owner, tokens, strict=True) for _ in range(count)]
        parts, places = [], []
        for name, teacher in self.teachers.items():
            mine = [n for n, other in enumerate(owner) if other == name]
            parts.append(teacher.targets([record_ids[n] for n in mine], [tokens[n] for n in mine]))
            places.append(torch.tensor([t for t, other in enumerate(per_token) if other == name], dtype=torch.int64))
        return interleaved(parts, places, len(per_token))


class SparseTogether(_AllSparse):
    """See `SparseAveraged`; arguments as of `Together`."""

    def __init__(self, teachers: Mapping[str, SparseProvider], shares: Mapping[str, float]) -> None:
        super().__init__(teachers)
        self.shares = [shares[name] for name in self.teachers]

    def expect(self, record_ids: Sequence[str]) -> None:
        """See `SparseProvider.expect`."""
        for teacher in self.teachers.values():
            teacher.expect(record_ids)

    def targets(self, record_ids: Sequence[str], tokens: Sequence[int]) -> SparseTargets:
        """See `SparseProvider.targets`."""
        return mixed([teacher.targets(record_ids, tokens) for teacher in self.teachers.values()], self.shares)


def _live(teachers: Mapping[str, LiveSource], asked: Asked) -> dict[str, LiveTeacher]:
    return {name: teacher.open(asked.below(f"teachers.{name}")) for name, teacher in teachers.items()}


def _sparse(
    teachers: Mapping[str, SparseSource], asked: Asked, wanted: Mapping[str, frozenset[str]]
) -> dict[str, SparseProvider]:
    return {name: teacher.open(asked.below(f"teachers.{name}", wanted.get(name))) for name, teacher in teachers.items()}


def _once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))
