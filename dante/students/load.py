"""Loading students and tokenizers without network and without remote code; shapes on the meta device."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from dante.errors import DanteError
from dante.students.mkl_linear import avoid_emulation

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Names that published configs use and transformers still translates (to `rope_parameters`, `dtype`).
OLDER_NAMES = ("rope_theta", "rope_scaling", "torch_dtype")


def load_tokenizer(folder: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face folder or hub id.

    Raises:
        DanteError: it is not on this machine and cannot be fetched.
    """
    try:
        return AutoTokenizer.from_pretrained(str(folder), revision=revision or "main", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_found("tokenizer", folder, error) from error


def load_student(folder: str | Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The causal language model of a folder, ready for packed rows.

    On a CPU without bf16 instructions its linear layers multiply bf16 by MKL (`dante.students.mkl_linear`).

    `use_cache` is off and attention is sdpa: transformers separates packed records by `position_ids` only without a
    cache and without an attention mask.

    Raises:
        DanteError: it is not on this machine and cannot be fetched.
    """
    model = load_pretrained(folder, dtype)
    model.config.use_cache = False
    avoid_emulation(model)
    return model


def load_pretrained(source: str | Path, dtype: torch.dtype, revision: str | None = None) -> PreTrainedModel:
    """The model as published, `use_cache` untouched: what is saved again should not carry our training switches."""
    try:
        return AutoModelForCausalLM.from_pretrained(
            str(source),
            revision=revision or "main",
            dtype=dtype,
            attn_implementation="sdpa",
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, SafetensorError) as error:
        raise _not_found("weights", source, error) from error


def config_from(architecture: Mapping[str, Any]) -> PreTrainedConfig:
    """A transformers config from plain values: `{model_type, hidden_size, …}`.

    Raises:
        DanteError: no or an unknown `model_type`, or a key that this model type does not have.
    """
    values = dict(architecture)
    model_type = values.pop("model_type", None)
    if model_type not in CONFIG_MAPPING:
        raise DanteError(
            f"unknown model_type {model_type!r}{_did_you_mean(str(model_type), list(CONFIG_MAPPING))}",
            where="student.architecture.model_type",
            allowed="a model type of transformers, such as llama, qwen3 or smollm3",
        )
    config_class = CONFIG_MAPPING[model_type]
    known = {*config_class().to_dict(), *config_class.attribute_map, *OLDER_NAMES}
    for key in values:
        if key not in known:
            raise DanteError(
                f"{model_type} has no setting {key!r}{_did_you_mean(key, sorted(known))}",
                where=f"student.architecture.{key}",
                allowed=f"attributes of {config_class.__name__}",
            )
    return AutoConfig.for_model(model_type, **values)


def build_meta(architecture: Mapping[str, Any]) -> PreTrainedModel:
    """The student on the meta device, from config values alone: no network, no memory.

    Args:
        architecture: `model_type` and config values; for a pruned student with the number of layers that is kept.
    """
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config_from(architecture))


def meta_of(folder: str | Path) -> PreTrainedModel:
    """The model that a folder holds, on the meta device: its config is read, its weights are not.

    Raises:
        DanteError: it is not on this machine and cannot be fetched.
    """
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_found("config", folder, error) from error
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


def _did_you_mean(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _not_found(part: str, source: str | Path, error: Exception) -> DanteError:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return DanteError(
        f"the {part} of {str(source)!r} cannot be loaded: {first_line}",
        where="student.source",
        allowed="a Hugging Face folder, a hub id that is on this machine, or 'teacher'",
        fix=f"fetch it once where there is a network (hf download {source}), give the folder as source, "
        "and check HF_HUB_OFFLINE",
    )
