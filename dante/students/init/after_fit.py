"""A student that has been trained before: another initialisation with what a fit has made of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedConfig, PreTrainedModel

from dante.models.pretrained import Source
from dante.students.init.base import Init
from dante.students.trained import WEIGHTS, load_trained


class AfterFit(Init):
    """The weights of a finished fit, the step's input `fit`, in the shape of another initialisation.

    What a recipe needs whose student has to be able to answer before its first step, where none such can be downloaded.

    Args:
        of: the initialisation that the fit began with.
    """

    def __init__(self, of: Init) -> None:
        self.of = of

    def reshape(self, config: PreTrainedConfig) -> None:
        self.of.reshape(config)

    def load(self, source: Source, dtype: torch.dtype) -> PreTrainedModel:
        return self.of.load(source, dtype)

    def begin(self, model: PreTrainedModel, inputs: Mapping[str, Path]) -> PreTrainedModel:
        model = self.of.begin(model, inputs)
        weights = inputs["fit"] / WEIGHTS
        load_trained(model, load_file(weights), weights)
        return model

    def described(self) -> dict[str, Any]:
        return self.of.described() | {"weights": "trained before"}
