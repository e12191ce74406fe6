"""How a student begins, as a part: what becomes of the source's layers and weights before training."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from dante.models.pretrained import Source, load_causal_lm


class Init(ABC):
    """One way to begin. Constructing it is cheap, so a plan can ask for the shape before there are weights."""

    @abstractmethod
    def reshape(self, config: PreTrainedConfig) -> None:
        """Make the source's decoder config, in place, describe the student.

        Raises:
            DanteError: the source cannot be brought into that shape.
        """

    def load(self, source: Source, dtype: torch.dtype) -> PreTrainedModel:
        """The source's model; whoever reads weights by himself gives it without them, on the meta device.

        Raises:
            DanteError: see `load_causal_lm`.
        """
        return load_causal_lm(source, dtype, attention="sdpa")

    @abstractmethod
    def begin(self, model: PreTrainedModel, inputs: Mapping[str, Path]) -> PreTrainedModel:
        """The student, from the source's model, which may be changed in place.

        Args:
            model: what `load` gave.
            inputs: finished directories of the steps that the initialisation reads.

        Raises:
            DanteError: see `reshape`.
        """

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """What `init.json` says of it, as JSON: `layers` (kept; None: all) and `weights` (`pretrained` or `random`)."""
