"""Kept blocks → what the units of a batch are to match, joined by record id: no teacher runs in the fit."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.distributed.device_mesh import DeviceMesh

from dante.errors import DanteError
from dante.students.backbone import SupervisedRow
from dante.supervision.asked import Asked, MadeBefore
from dante.supervision.blocks import SeenBlocks, calibrated_energies
from dante.supervision.kept.files import KeptBlocks, KeptRecord
from dante.supervision.sparse import rendering_of


class Kept(MadeBefore):
    """Files that a step of the stage `blocks` has written.

    Args:
        calibration: the fit's input that says what is usual of each block.
        folder: where the files lie; None: in the fit's input `blocks`.
    """

    def __init__(self, calibration: str, folder: str | None) -> None:
        self.calibration, self.folder = calibration, folder

    def open(self, asked: Asked) -> "BlocksInFiles":
        """Open them.

        Raises:
            DanteError: there are none, or they were made for another tokenizer or template.
        """
        if self.folder is None and "blocks" not in asked.inputs:
            raise DanteError(
                "the fit has no input `blocks`, and no folder of kept blocks is named",
                where=f"{asked.where}.folder",
                allowed="a folder that a step of the stage `blocks` has written",
                fix="recipe=laguna_dense_kept",
            )
        files = KeptBlocks(Path(self.folder) if self.folder is not None else asked.inputs["blocks"])
        if files.manifest["rendering"] != rendering_of(asked.renderer.tokenizer):
            raise DanteError(
                "the blocks were kept for another tokenizer or template than the student's",
                where=str(files.folder),
                allowed="a student with the teacher's own tokenizer and chat template",
                fix="make them again: on_existing=overwrite only=blocks",
            )
        return BlocksInFiles(files, calibrated_energies(asked, self.calibration))


class BlocksInFiles:
    """What a teacher's blocks saw and said, read row by row.

    Args:
        files: finished.
        energies: E_t‖y_t‖² of each sparse layer's block.
    """

    def __init__(self, files: KeptBlocks, energies: dict[int, float]) -> None:
        self.files, self.energies = files, energies
        self._layers: list[int] = files.manifest["sparse_layers"]
        self.width: int = files.manifest["width"]
        self._records = files.records()
        self._device = torch.device("cpu")

    def place(self, device: torch.device, mesh: DeviceMesh | None) -> None:
        """See `LiveBlocks.place`."""
        self._device = device

    def blocks(self, row: SupervisedRow, record_ids: Sequence[str]) -> SeenBlocks:
        """See `LiveBlocks.blocks`; nothing is collective.

        Raises:
            DanteError: a record was not kept, or was kept as another text.
        """
        if not record_ids:  # an empty row of one token
            nothing = torch.zeros(1, self.width, dtype=torch.bfloat16, device=self._device)
            return SeenBlocks(dict.fromkeys(self._layers, (nothing, nothing)))
        read = [self.files.read(self._place(identity)) for identity in record_ids]
        ids = torch.cat([one[0] for one in read])
        if not torch.equal(ids, row.input_ids[0].cpu()):
            raise DanteError(
                f"records {', '.join(record_ids[:3])} … were kept as another text than the fit's",
                where=str(self.files.folder),
                allowed="files of the very cache and rendering that the fit reads",
                fix="make them again: on_existing=overwrite only=blocks",
            )
        inputs, outputs = (torch.cat([one[side] for one in read], dim=1).to(self._device) for side in (1, 2))
        return SeenBlocks({layer: (inputs[place], outputs[place]) for place, layer in enumerate(self._layers)})

    def _place(self, identity: str) -> KeptRecord:
        if identity not in self._records:
            raise DanteError(
                f"record {identity} was not kept: the files hold {len(self._records)} records, of another fit",
                where=str(self.files.folder),
                allowed="files of a fit with the same batches: seed, steps, batch, max_tokens, curriculum",
                fix="keep them for this fit: recipe=laguna_dense_kept without supervision.blocks.folder",
            )
        return self._records[identity]
