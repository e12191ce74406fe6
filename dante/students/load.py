"""Loading students and tokenizers without network and without remote code; shapes on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from dante.errors import DanteError, did_you_mean
from dante.models.cpu import suit_cpu
from dante.models.pretrained import STUDENT_SOURCE, Source, load_causal_lm, read_config, source_of
from dante.students.dense_form import as_dense
from dante.students.init.base import Init

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Names that published configs use and transformers still translates (to `rope_parameters`, `dtype`).
OLDER_NAMES = ("rope_theta", "rope_scaling", "torch_dtype")


def load_student(folder: str | Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The causal language model of a folder, ready for packed rows.

    A dense student of a mixture has one unit per block, not the experts that its folder stores it as. On a CPU its
    products run as they are fast there (`dante.models.cpu`).

    `use_cache` is off and attention is sdpa: transformers separates packed records by `position_ids` only without a
    cache and without an attention mask.

    Raises:
        DanteError: see `load_causal_lm`.
    """
    model = as_dense(load_pretrained(folder, dtype))
    model.config.use_cache = False
    suit_cpu(model)
    return model


def load_pretrained(source: str | Path, dtype: torch.dtype, revision: str | None = None) -> PreTrainedModel:
    """The model as published, `use_cache` untouched: what is saved again should not carry our training switches."""
    return load_causal_lm(Source(source, STUDENT_SOURCE, revision), dtype, attention="sdpa")


def config_from(architecture: Mapping[str, Any]) -> PreTrainedConfig:
    """A transformers config from plain values: `{model_type, hidden_size, …}`.

    Raises:
        DanteError: no or an unknown `model_type`, or a key that this model type does not have.
    """
    values = dict(architecture)
    model_type = values.pop("model_type", None)
    if model_type not in CONFIG_MAPPING:
        raise DanteError(
            f"unknown model_type {model_type!r}",
            where="student.architecture.model_type",
            allowed="a model type of transformers, such as llama, qwen3 or smollm3",
            fix=did_you_mean(str(model_type), CONFIG_MAPPING),
        )
    config_class = CONFIG_MAPPING[model_type]
    allowed_keys = {*config_class().to_dict(), *config_class.attribute_map, *OLDER_NAMES}
    for key in values:
        if key not in allowed_keys:
            raise DanteError(
                f"{model_type} has no setting {key!r}",
                where=f"student.architecture.{key}",
                allowed=f"attributes of {config_class.__name__}",
                fix=did_you_mean(key, sorted(allowed_keys)) or f"remove student.architecture.{key}",
            )
    return AutoConfig.for_model(model_type, **values)


def build_meta(architecture: Mapping[str, Any], init: Init | None = None) -> PreTrainedModel:
    """The student on the meta device, from config values alone: no network, no memory.

    Args:
        architecture: `model_type` and config values, of the source.
        init: how the student begins; None: as the source is.
    """
    return _meta(config_from(architecture), init)


def meta_of(folder: str | Path, init: Init | None = None) -> PreTrainedModel:
    """The model that a folder holds, on the meta device: its config is read, its weights are not.

    Args:
        folder: Hugging Face folder, hub id or GGUF file.
        init: how the student begins; None: as it is.

    Raises:
        DanteError: it is not on this machine and cannot be fetched, or it cannot be brought into that shape.
    """
    return _meta(read_config(source_of(folder, STUDENT_SOURCE)), init)


def _meta(config: PreTrainedConfig, init: Init | None) -> PreTrainedModel:
    if init is not None:
        init.reshape(config.get_text_config(decoder=True))
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def count_parameters(model: torch.nn.Module, embeddings: bool = True) -> int:
    """Number of parameters; a tied matrix counts once.

    Args:
        model: any model, on the meta device too.
        embeddings: whether input embedding and output head count (False: the backbone, as in FLOPs estimates).
    """
    left_out: set[int] = set()
    if not embeddings:
        assert isinstance(model, PreTrainedModel)
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        left_out = {id(parameter) for end in ends if end is not None for parameter in end.parameters()}
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in left_out)
