"""The one place where weights are loaded: students, teachers, models to be measured.

transformers initialises what it does not find at random and says so in a warning. Here a missing tensor, or one of
another shape, is an error; a tensor that nothing reads is told; names in a wrapper's clothes are recognised.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    __version__,
)

from dante import console
from dante.errors import DanteError
from dante.models.folder import check_folder, config_of, local_folder, quantised
from dante.models.gguf_file import check_installed, facts_of, gguf_path, is_gguf, say_tied, tie_again
from dante.models.wrapped_names import Wrapping, find_wrapping

NAMED = 5


@dataclass(frozen=True)
class Source:
    """What is to be loaded.

    Attributes:
        name: Hugging Face folder, or hub id.
        where: the key that names it, for messages.
        revision: of a hub id.
        gguf: name of the GGUF file in the folder that holds config and weights; they are dequantised.
    """

    name: str | Path
    where: str
    revision: str | None = None
    gguf: str | None = None

    def __str__(self) -> str:
        return str(self.name if self.gguf is None else Path(self.name) / self.gguf)


def source_of(name: str | Path, where: str, revision: str | None = None) -> Source:
    """What a config names: a Hugging Face folder, a hub id, or a GGUF file.

    Raises:
        DanteError: it is to be a GGUF file, and is none that can be read.
    """
    if not is_gguf(name):
        return Source(name, where, revision)
    check_installed(where)
    path = gguf_path(name, where)
    return Source(path.parent, where, gguf=path.name)


def load_causal_lm(source: Source, dtype: torch.dtype, attention: str | None = None) -> PreTrainedModel:
    """The causal language model of a folder or hub id, every tensor of it from its files.

    Args:
        source: what to load.
        dtype: of the weights.
        attention: implementation, or None for the model's own choice.

    Raises:
        DanteError: it is not on this machine, transformers does not know it, or tensors are missing or have another
            shape than the config says.
    """
    if source.gguf is None:
        check_config(source)
    model, loading_info = _load(source, dtype, attention, None)
    wrapping = _wrapping(model, loading_info)
    if wrapping is not None:
        del model
        model, loading_info = _load(source, dtype, attention, wrapping)
        console.note(f"{source}: its names carry {wrapping.words}, which is stripped")
    _check_complete(source, loading_info)
    if source.gguf is not None:
        tie_again(model, Path(source.name) / source.gguf)
    _tell_own_head(model, source)
    return model


def check_config(source: Source) -> PreTrainedConfig:
    """The config of a folder or hub id whose weights can be loaded here, as far as that is known without reading them.

    Raises:
        DanteError: the folder is damaged or no model, or transformers does not know this kind of model.
    """
    folder = local_folder(source.name)
    if folder is not None and source.gguf is None:
        _check_type(source, check_folder(folder, source.where))
    return read_config(source)


def read_config(source: Source) -> PreTrainedConfig:
    """The config of a folder or hub id; weights are not asked for.

    Raises:
        DanteError: it is not there, or transformers does not know this kind of model.
    """
    folder = local_folder(source.name)
    packed = {} if source.gguf is None else {"gguf_file": source.gguf}
    if folder is not None and not packed:
        _check_type(source, config_of(folder, source.where))
    with told(f"the config of {str(source)!r} cannot be read", source.name, source.where):
        config = AutoConfig.from_pretrained(
            _name(source), revision=source.revision or "main", trust_remote_code=False, **packed
        )
    if source.gguf is not None and facts_of(Path(source.name) / source.gguf).stored_twice:
        say_tied(config)
    return config


@contextlib.contextmanager
def told(what: str, source: str | Path, where: str) -> Iterator[None]:
    """Whatever transformers raises over a model's files becomes one paragraph; it raises what the files make it raise.

    A full memory is nobody's fault and stays what it is.
    """
    try:
        yield
    except (DanteError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        message = lines[0] if lines else type(error).__name__
        folder = local_folder(source)
        raise DanteError(
            f"{what}: {message}",
            where=where,
            allowed="a Hugging Face folder, or a hub id that is on this machine",
            fix=f"see to {folder}"
            if folder
            else f"fetch it once where there is a network (hf download {source}), give the folder instead, "
            "and check HF_HUB_OFFLINE",
        ) from error


def why_not_here(folder: Path) -> str | None:
    """Why transformers cannot read a teacher's folder that another engine may read, or None."""
    config = config_of(folder, "teacher.make.model")
    try:
        _check_type(Source(folder, "teacher.make.model"), config)
    except DanteError as error:
        return error.what
    method = quantised(config)
    # The packed format that transformers unpacks by itself.
    return f"its weights are quantised ({method})" if method not in (None, "mxfp4") else None


def _load(
    source: Source, dtype: torch.dtype, attention: str | None, wrapping: Wrapping | None
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model, and transformers' account of which names it found."""
    options: dict[str, Any] = {"use_safetensors": True}
    if source.gguf is not None:
        options = {"gguf_file": source.gguf, "quantization_config": GgufConfig(dequantize=True)}
    if attention is not None:
        options["attn_implementation"] = attention
    if wrapping is not None:
        options["key_mapping"] = wrapping.key_mapping
    what = f"the weights of {str(source)!r} cannot be loaded"
    with told(what, source.name, source.where), _one_bar(source.gguf):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            _name(source),
            revision=source.revision or "main",
            dtype=dtype,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are counted, and refused by `_check_complete`
            **options,
        )
    model, loading_info = loaded
    if wrapping is not None:
        _forget(model, wrapping)
    return model, loading_info


def _forget(model: Any, wrapping: Wrapping) -> None:
    """transformers would write the names as it read them, the wrapper's clothes put on again."""
    ours = set(wrapping.key_mapping)
    kept = [conversion for conversion in model._weight_conversions if not ours.intersection(conversion.source_patterns)]
    model._weight_conversions = kept


def _wrapping(model: PreTrainedModel, loading_info: dict[str, Any]) -> Wrapping | None:
    missing, unexpected = loading_info["missing_keys"], loading_info["unexpected_keys"]
    if not missing or not unexpected or any(".lora_" in name for name in unexpected):
        return None
    nothing = all(name in missing for name, _ in model.named_parameters())
    return find_wrapping(missing, unexpected, all_missing=nothing)


def _check_complete(source: Source, loading_info: dict[str, Any]) -> None:
    missing, unexpected = loading_info["missing_keys"], loading_info["unexpected_keys"]
    shapes = [f"{name} is {list(got)}, not {list(wanted)}" for name, got, wanted in loading_info["mismatched_keys"]]
    problems = [f"{len(missing)} tensors are missing ({_some(missing)})"] if missing else []
    problems += [f"{len(shapes)} have another shape than the config says ({_some(shapes)})"] if shapes else []
    if problems:
        problems += (
            [f"{len(unexpected)} others belong to no part of the model ({_some(unexpected)})"] if unexpected else []
        )
        raise DanteError(
            f"the weights of {str(source)!r} are not those of its config: {'; '.join(problems)}",
            where=source.where,
            allowed="a file that holds every tensor of the model",
            fix="merge the adapter that it holds into the weights first (peft: merge_and_unload)"
            if any(".lora_" in name for name in unexpected)
            else "save or copy the model again, or correct its config.json",
        )
    if unexpected:
        console.note(
            f"{source}: {len(unexpected)} tensors belong to no part of the model and are left out ({_some(unexpected)})"
        )


def _tell_own_head(model: PreTrainedModel, source: Source) -> None:
    """transformers keeps a head that the file stores beside the embedding, whatever the config says of tying."""
    ends: tuple[Any, Any] = (model.get_input_embeddings(), model.get_output_embeddings())
    config = model.config.get_text_config(decoder=True)
    if None in ends or not getattr(config, "tie_word_embeddings", False) or ends[0].weight is ends[1].weight:
        return
    config.tie_word_embeddings = False
    console.note(f"{source}: its config ties head and embedding, its file has a head of its own, which is used")


def _check_type(source: Source, config: dict[str, Any]) -> None:
    """transformers must know the kind of model: code that comes with a model is not run here."""
    kind: Any = config.get("model_type")
    if kind in CONFIG_MAPPING and CONFIG_MAPPING[kind] in MODEL_FOR_CAUSAL_LM_MAPPING:
        return
    allowed = f"a causal language model that transformers {__version__} knows, such as llama, qwen3 or smollm3"
    what, fix = f"transformers {__version__} knows no model_type {kind!r}", "pip install --upgrade transformers"
    if kind is None:
        what, fix = "its config.json names no model_type", "write the model_type that the weights belong to into it"
    elif kind in CONFIG_MAPPING:
        what, fix = f"a {kind} is no causal language model", "name another model"
    elif config.get("auto_map"):
        what, fix = f"a {kind} needs code that comes with it, which is not run here", "name another model"
    elif close := difflib.get_close_matches(str(kind), list(CONFIG_MAPPING), n=1, cutoff=0.8):
        fix = f"{fix}, or correct its config.json (did you mean {close[0]}?)"
    raise DanteError(f"{str(source)!r} cannot be loaded: {what}", where=source.where, allowed=allowed, fix=fix)


@contextlib.contextmanager
def _one_bar(gguf: str | None) -> Iterator[None]:
    """transformers draws a bar over a GGUF file that its own switch does not reach: on a terminal it stays, a log gets
    one line instead of hundreds of fragments."""
    if gguf is None or sys.stderr.isatty():
        yield
        return
    console.info(f"dequantising {gguf}")
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return ", ".join(ordered[:NAMED]) + more


def _name(source: Source) -> str:
    """What transformers takes: it does not know `~`."""
    folder = local_folder(source.name)
    return str(source) if folder is None else str(folder)


# The key that names a student's weights.
STUDENT_SOURCE = "student.source"
