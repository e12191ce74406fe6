"""A mixture of experts as a dense student: attention and all else copied, one gated unit in every sparse block's place.

The student is stored as `dante.students.dense_form` says: in the teacher's class, as experts that are always on. The
teacher is read layer by layer.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from dante.densify.calibration.store import CalibrationFiles
from dante.densify.fill import Fill
from dante.densify.refit import nmse, refit_down
from dante.densify.scaling import Scaling
from dante.errors import DanteError
from dante.models.moe.adapter import Adapter, SparseBlock
from dante.models.moe.glu import Glu, concatenate
from dante.models.moe.registry import adapter_for
from dante.models.one_layer import LayerByLayer
from dante.models.pretrained import STUDENT_SOURCE, Source
from dante.students.dense_form import decoder_layers, stored_config
from dante.students.init.base import Init
from dante.students.init.copying import copied_layers

INPUT = "calibration"


class MoeToDense(Init):
    """See the module.

    Args:
        fill: what the routed part of a unit begins as.
        scaling: what its parts are multiplied by in place of routing weights.
        ridge: refits the last product of every unit on the calibration's inputs, with this penalty; None: does not.
    """

    def __init__(self, fill: Fill, scaling: Scaling, ridge: float | None) -> None:
        if ridge is not None and ridge <= 0:
            raise DanteError(
                f"student.init.ridge={ridge} is no penalty",
                where="student.init.ridge",
                allowed="a number above 0, such as 0.001, or null",
                fix="student.init.ridge=0.001",
            )
        self.fill, self.scaling, self.ridge = fill, scaling, ridge
        self._layers: LayerByLayer | None = None
        #: NMSE of every unit on the calibration's inputs, where there is one.
        self.nmse: dict[int, float] = {}

    def reshape(self, config: PreTrainedConfig) -> None:
        adapter = _adapter(config)
        adapter.describe(config, self._size(adapter, config))

    def load(self, source: Source, dtype: torch.dtype) -> PreTrainedModel:
        """The source without weights: they are read layer by layer in `begin`."""
        self._layers = LayerByLayer(source, dtype)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(self._layers.config, dtype=dtype)
        return model

    def begin(self, model: PreTrainedModel, inputs: Mapping[str, Path]) -> PreTrainedModel:
        assert self._layers is not None, "load comes before begin"
        layers = self._layers
        adapter, calibration = _adapter(layers.decoder_config), self._calibration(inputs)
        config = stored_config(layers.config, adapter, self._size(adapter, layers.decoder_config), "unpadded")
        with torch.random.fork_rng(devices=[]):
            student: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=layers.dtype)
        sparse = set(adapter.sparse_layers(layers.decoder_config))
        with torch.no_grad():
            for number, one, ours in copied_layers(layers, student, "init: layers"):
                if number in sparse:
                    block = adapter.block(decoder_layers(one)[0])
                    adapter.write(ours, self._unit(block, calibration, number))
        student.generation_config = model.generation_config
        return student

    def described(self) -> dict[str, Any]:
        measured = {"nmse": {str(layer): value for layer, value in self.nmse.items()}} if self.nmse else {}
        how = {"scaling": self.scaling, "ridge": self.ridge}
        return {"layers": None, "weights": "densified", **self.fill.described(), **how, **measured}

    def _size(self, adapter: Adapter, config: PreTrainedConfig) -> int:
        """Entries of a unit."""
        width = self.fill.width(adapter.experts(config), adapter.top_k(config))
        return adapter.shared_size(config) + width * adapter.expert_size(config)

    def _unit(self, block: SparseBlock, calibration: CalibrationFiles | None, layer: int) -> Glu:
        if calibration is not None:
            _check_same(block, calibration, layer)
        statistics = calibration.statistics(layer) if calibration is not None else None
        routed = self.fill.routed(block, statistics, self.scaling)
        shared = [] if block.shared is None or not self.fill.keeps_shared else [block.shared]
        unit = concatenate([*shared, routed])
        if calibration is None:
            return unit
        inputs = calibration.inputs(layer).to(unit.gate)
        outputs = block(inputs)
        if self.ridge is not None:
            unit = refit_down(unit, inputs, outputs, self.ridge)
        self.nmse[layer] = nmse(unit, inputs, outputs)
        return unit

    def _calibration(self, inputs: Mapping[str, Path]) -> CalibrationFiles | None:
        if INPUT in inputs:
            return CalibrationFiles(inputs[INPUT])
        if not self.fill.needs_statistics and self.ridge is None and self.scaling == "uniform":
            return None
        raise DanteError(
            "this initialisation reads what experts do, and the step init has no calibration",
            where="steps.init.inputs",
            allowed="an input `calibration`: a step of the stage `calibration`",
            fix="take a recipe that has one (+experiment=laguna_dense), or init=average",
        )


def _check_same(block: SparseBlock, calibration: CalibrationFiles, layer: int) -> None:
    """Refuses a calibration of another mixture.

    Raises:
        DanteError: it has other experts, or they are of another width.
    """
    ours = (block.experts, block.expert(0).gate.shape[1])
    theirs = (calibration.statistics(layer).experts, calibration.inputs(layer).shape[1])
    if ours != theirs:
        raise DanteError(
            f"layer {layer} of what is made dense has {ours[0]} experts on states of {ours[1]}, and the calibration is "
            f"of {theirs[0]} experts on {theirs[1]}",
            where="steps.calibration.inputs.teacher",
            allowed="a calibration of the very mixture that is made dense",
            fix="student.source=teacher makes the run's teacher dense",
        )


def _adapter(config: PreTrainedConfig) -> Adapter:
    """The adapter of a mixture.

    Raises:
        DanteError: the architecture has none, or the model no sparse layer.
    """
    adapter = adapter_for(config, STUDENT_SOURCE)
    if not adapter.sparse_layers(config):
        raise DanteError(
            f"this {adapter.model_type} has no sparse layer",
            where=STUDENT_SOURCE,
            allowed="a mixture of experts",
            fix="student.init._target_=dante.students.init.keep_layers.KeepLayers",
        )
    return adapter
