"""What a fit tells the parts that provide the teacher's side of its batches, and what these parts are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from dante.cache.asked import rendered_with
from dante.errors import DanteError
from dante.losses.tokens import SpanLogits, SparseTargets, TeacherBlocks, TeacherLogits, TokenSpans
from dante.students.backbone import SupervisedRow
from dante.text.chat import ChatRenderer
from dante.text.rendering import Renderer


@dataclass(frozen=True)
class Asked:
    """A fit before its first step.

    Attributes:
        inputs: finished step directories by the names that the fit has for them (`cache`, `teacher`, …).
        renderer: of the student's texts: tokenizer, template and form.
        trainer: devices.
        kind: of the sparse logits that its losses read, or None.
        where: key of the part that is opened, for what it says to the user.
        records: train records of the cache that the part is asked for; None: all of them.
        out: the fit's own directory, where a part may leave notes; None: it leaves none.
    """

    inputs: Mapping[str, Path]
    renderer: Renderer
    trainer: Mapping[str, Any]
    kind: str | None = None
    where: str = "supervision"
    records: frozenset[str] | None = None
    out: Path | None = None

    def below(self, key: str, records: frozenset[str] | None = None) -> "Asked":
        """What a part inside the part is told.

        Args:
            key: of the part inside.
            records: what it is asked for; None: what the part is asked for.
        """
        return replace(self, where=f"{self.where}.{key}", records=self.records if records is None else records)

    @property
    def chat(self) -> dict[str, Any]:
        """Template variables that are defaults of the student's template."""
        return rendered_with(self.inputs["init"]) if "init" in self.inputs else {}

    def teacher(self, step: str) -> Path:
        """The finished step directory of a teacher that the fit reads.

        Raises:
            DanteError: the fit has no such input.
        """
        fix = "name one of them, or give the fit's step an input: inputs: {NAME: LABEL OF A TEACHER STEP}"
        return self.input(step, "step", fix)

    def input(self, name: str, key: str, fix: str, meaning: str = "") -> Path:
        """A finished step directory that the fit reads.

        Args:
            name: of the fit's input.
            key: of the part that names it, for the message.
            fix: what to do where there is none.
            meaning: what it is read for, behind the name.

        Raises:
            DanteError: the fit has no such input.
        """
        if name not in self.inputs:
            raise DanteError(
                f"the fit has no input {name!r}{meaning}",
                where=f"{self.where}.{key}",
                allowed=", ".join(sorted(self.inputs)),
                fix=fix,
            )
        return self.inputs[name]


@runtime_checkable
class SparseProvider(Protocol):
    """Sparse targets of a cache's records, open."""

    def targets(self, record_ids: Sequence[str], tokens: Sequence[int]) -> SparseTargets:
        """The targets of some records, one after the other.

        Args:
            record_ids: as the cache names them.
            tokens: supervised tokens of each.
        """

    def expect(self, record_ids: Sequence[str]) -> None:
        """Told which records are asked for next, so that what takes time can begin."""

    def close(self) -> None:
        """Nothing is asked for any more: what is under way in this process ends, and in its data loader workers."""


@runtime_checkable
class Source(Protocol):
    """A part in `supervision`."""

    def scoring_inputs(self) -> list[str]:
        """Inputs of the fit, teacher steps, whose teacher scores every draw; none where scores are kept in files."""

    def resident_inputs(self) -> list[str]:
        """Those of them whose weights lie beside the student's."""


class MadeBefore:
    """A `Source` of files: no teacher runs in the fit that reads them."""

    def scoring_inputs(self) -> list[str]:
        """See `Source`."""
        return []

    def resident_inputs(self) -> list[str]:
        """See `Source`."""
        return []


@runtime_checkable
class SparseSource(Source, Protocol):
    """A part in `supervision.sparse`."""

    def open(self, asked: Asked) -> SparseProvider:
        """Open it for a fit; whatever does not fit is refused here."""


@runtime_checkable
class LiveTeacher(Protocol):
    """A teacher that runs beside the student."""

    def place(self, device: torch.device, mesh: DeviceMesh | None) -> None:
        """Bring its weights to where the student's are, or spread them over the mesh."""

    def logits(self, row: SupervisedRow, record_ids: Sequence[str]) -> TeacherLogits:
        """What it says at the supervised positions of a row. Where weights are spread, every rank calls it."""


@runtime_checkable
class LabelledRow(SupervisedRow, Protocol):
    """A packed row with what its supervised positions predict."""

    @property
    def labels(self) -> Int64[Tensor, " supervised"]: ...


@runtime_checkable
class Reading(Protocol):
    """Records in a teacher's own tokens (`dante.data.batch.Reading`)."""

    @property
    def row(self) -> LabelledRow: ...

    @property
    def their_tokens(self) -> TokenSpans: ...

    @property
    def tokens(self) -> TokenSpans: ...


@runtime_checkable
class LiveReader(Protocol):
    """A teacher of other tokens that runs beside the student, on its own rendering of the same records."""

    def place(self, device: torch.device, mesh: DeviceMesh | None) -> None:
        """See `LiveTeacher.place`."""

    def said(self, reading: Reading) -> SpanLogits:
        """What it says where tokens of both end together. Where weights are spread, every rank calls it."""


@runtime_checkable
class LiveBlocks(Protocol):
    """The sparse blocks of a teacher, on the fit's rows.

    Attributes:
        energies: E_t‖y_t‖² of each sparse layer's block over calibration tokens.
        width: of the states that the blocks read.
    """

    energies: dict[int, float]
    width: int

    def place(self, device: torch.device, mesh: DeviceMesh | None) -> None:
        """See `LiveTeacher.place`."""

    def blocks(self, row: SupervisedRow, record_ids: Sequence[str]) -> TeacherBlocks:
        """What enters and leaves them. Where weights are spread, every rank calls it."""


@runtime_checkable
class BlocksSource(Source, Protocol):
    """A part in `supervision.blocks`."""

    def open(self, asked: Asked) -> LiveBlocks:
        """Load it for a fit; whatever does not fit is refused here."""


@runtime_checkable
class LiveSource(Source, Protocol):
    """A part in `supervision.teacher_logits`."""

    def open(self, asked: Asked) -> LiveTeacher:
        """Load it for a fit; whatever does not fit is refused here."""


@runtime_checkable
class ReaderSource(Source, Protocol):
    """A part in `supervision.span_logits`."""

    def renderer(self, asked: Asked) -> ChatRenderer:
        """The teacher's tokenizer and template, as its answers were asked for: records are aligned before any weight is
        read."""

    def open(self, asked: Asked) -> LiveReader:
        """Load it for a fit; whatever does not fit is refused here."""
