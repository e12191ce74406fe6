"""The teacher's sparse blocks on the rows of a fit: what enters and leaves them, from one forward without an LM head.

The teacher is loaded, placed and spread as for its logits (`dante.supervision.live`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dante.densify.calibration.store import CalibrationFiles
from dante.models.moe.adapter import Adapter
from dante.models.moe.registry import adapter_for
from dante.students.backbone import SupervisedRow, supervised_states
from dante.students.dense_form import decoder_layers
from dante.supervision.asked import Asked
from dante.supervision.live import Beside, OfStep
from dante.teachers.teacher import SOURCE


class Model(OfStep):
    """The blocks of the teacher of a finished `teacher` step, run on the fit's rows.

    Args:
        step: the fit's input that is that step.
        calibration: the fit's input that says what is usual of each block.
        precision: of its weights and products: `bf16` or `fp32`.
        attention: of packed rows, as `fit.attention`.
    """

    def __init__(self, step: str, calibration: str, precision: str, attention: str) -> None:
        super().__init__(step, precision, attention)
        self.calibration = calibration

    def open(self, asked: Asked) -> "BlocksBeside":
        """Load it.

        Raises:
            DanteError: the fit has no such inputs, or the teacher no sparse blocks.
        """
        energies = calibrated_energies(asked, self.calibration)
        model, device, spread = self.loaded(asked)
        return BlocksBeside(model, energies, device, spread)


def calibrated_energies(asked: Asked, name: str) -> dict[int, float]:
    """E_t‖y_t‖² of each sparse layer's block.

    Args:
        asked: the fit.
        name: its input that is a calibration.

    Raises:
        DanteError: it has none.
    """
    meaning = ", which says what is usual of each block"
    fix = "take a recipe that has one: +experiment=laguna_dense"
    files = CalibrationFiles(asked.input(name, "calibration", fix, meaning))
    return {layer: files.statistics(layer).output_energy for layer in files.manifest["sparse_layers"]}


@dataclass(frozen=True)
class SeenBlocks:
    """What one forward has shown (`dante.losses.tokens.TeacherBlocks`)."""

    seen: Mapping[int, tuple[Tensor, Tensor]]

    def of(self, layer: int) -> tuple[Tensor, Tensor]:
        """See `TeacherBlocks`."""
        return self.seen[layer]


class _Backbone(nn.Module):
    """What is sharded: one forward from tokens to what every sparse block saw and said."""

    def __init__(self, model: PreTrainedModel, adapter: Adapter, layers: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}
        for layer in layers:
            for part in adapter.parts(decoder_layers(model)[layer]):
                part.register_forward_hook(
                    lambda _, inputs, output, layer=layer: self._add(layer, inputs[0], adapter.output(output))
                )

    def forward(self, row: SupervisedRow) -> dict[int, tuple[Tensor, Tensor]]:
        self._seen = {}
        supervised_states(self.model, row, autocast=False)
        seen, self._seen = self._seen, {}
        return seen

    def _add(self, layer: int, entered: Tensor, said: Tensor) -> None:
        """Parts of a block have one input, and what they say is added up."""
        width = entered.shape[-1]
        x_ND, y_ND = entered.reshape(-1, width), said.reshape(-1, width)
        before = self._seen.get(layer)
        self._seen[layer] = (x_ND, y_ND if before is None else before[1] + y_ND)


class BlocksBeside(Beside):
    """A teacher whose blocks are read.

    Args:
        model: a mixture in its own dtype; it is frozen here.
        energies: E_t‖y_t‖² of each sparse layer's block.
        device: see `Beside`.
        spread: see `Beside`.

    Raises:
        DanteError: no adapter for its architecture.
    """

    def __init__(
        self, model: PreTrainedModel, energies: Mapping[int, float], device: str | None = None, spread: bool = True
    ) -> None:
        config: Any = model.config.get_text_config(decoder=True)
        adapter = adapter_for(config, SOURCE)
        self.energies, self.width = dict(energies), int(config.hidden_size)
        super().__init__(_Backbone(model, adapter, adapter.sparse_layers(config)), model, device, spread)

    @torch.no_grad()
    def blocks(self, row: SupervisedRow, record_ids: Sequence[str]) -> SeenBlocks:
        """What entered and left every sparse block. Where weights are spread, every rank calls it."""
        return SeenBlocks(self.run(row))
