"""A calibration step's files: per sparse layer its statistics, and the inputs of its first tokens.

calibration.json            what was read, and which layers are sparse
layer-007.safetensors       tokens, count, weight, gram (fp64)
inputs-007.safetensors      inputs [kept tokens, width], in the teacher's dtype
"""

from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors.torch import load_file, save
from torch import Tensor

from dante.densify.calibration.statistics import ExpertStatistics
from dante.errors import DanteError
from dante.system.files import read_json, write_bytes, write_json

_MANIFEST = "calibration.json"


class CalibrationFiles:
    """A step's folder, being written or finished.

    Args:
        folder: of the step.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, layer: int, statistics: ExpertStatistics, inputs: Float[Tensor, "tokens width"]) -> None:
        """Write one layer; each file is whole or not there."""
        write_bytes(self._inputs(layer), save({"inputs": inputs.contiguous().cpu()}))
        write_bytes(self._statistics(layer), save(statistics.tensors()))

    def statistics(self, layer: int) -> ExpertStatistics:
        """Of a layer's block.

        Raises:
            DanteError: the layer was not calibrated.
        """
        return ExpertStatistics.of(self._read(self._statistics(layer)))

    def inputs(self, layer: int) -> Float[Tensor, "tokens width"]:
        """What entered a layer's block, of the first tokens.

        Raises:
            DanteError: the layer was not calibrated.
        """
        return self._read(self._inputs(layer))["inputs"]

    def seal(self, manifest: dict[str, Any]) -> None:
        """Everything is there."""
        write_json(self.folder / _MANIFEST, manifest)

    @property
    def manifest(self) -> dict[str, Any]:
        """What `seal` was given."""
        content: dict[str, Any] = read_json(self.folder / _MANIFEST)
        return content

    def _statistics(self, layer: int) -> Path:
        return self.folder / f"layer-{layer:03d}.safetensors"

    def _inputs(self, layer: int) -> Path:
        return self.folder / f"inputs-{layer:03d}.safetensors"

    def _read(self, path: Path) -> dict[str, Tensor]:
        if not path.is_file():
            raise DanteError(
                f"no {path.name} in the calibration",
                where=str(self.folder),
                allowed="a calibration of the very teacher that is made dense",
                fix="make the calibration again: on_existing=overwrite",
            )
        return load_file(path)
