"""A model one decoder layer at a time: a teacher of 33 B parameters needs the memory of one layer.

Every layer is loaded as a stock model of that one layer, so that transformers' own conversions (packed experts, renamed
tensors) and its own forward (masks, rotations, kinds of layers) apply. Only the layer's tensors are read, and the ends
(embedding, final norm, head) with the first one.
"""

import copy
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from dante.errors import DanteError
from dante.models.fewer_layers import describe_layers
from dante.models.folder import INDEX, WEIGHTS, local_folder
from dante.models.pretrained import Source, check_config, told

_LAYER = re.compile(r"(?P<before>(?:^|.*\.)layers\.)(?P<number>\d+)(?P<after>\..*)$")


class LayerByLayer:
    """The decoder layers of a folder or hub id.

    Args:
        source: of a causal language model in safetensors.
        dtype: of the weights.

    Raises:
        DanteError: it is not on this machine, or transformers does not know it.
    """

    def __init__(self, source: Source, dtype: torch.dtype) -> None:
        self.source, self.dtype = source, dtype
        self.config: PreTrainedConfig = check_config(source)
        self._files = _tensor_files(source)

    @property
    def decoder_config(self) -> PreTrainedConfig:
        """Of the decoder, whatever wraps it."""
        return self.config.get_text_config(decoder=True)

    def __len__(self) -> int:
        return int(self.decoder_config.num_hidden_layers)

    def load(self, number: int) -> PreTrainedModel:
        """A stock model whose only decoder layer is this one, with the whole model's embedding, norm and head.

        Raises:
            DanteError: tensors of the layer are missing.
        """
        config = copy.deepcopy(self.config)
        describe_layers(config.get_text_config(decoder=True), [number])
        tensors = dict(self._read(number))
        with told(f"layer {number} of {str(self.source)!r} cannot be loaded", self.source.name, self.source.where):
            kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]  # the automatic class wants a name
            loaded: Any = kind.from_pretrained(
                None, config=config, state_dict=tensors, dtype=self.dtype, output_loading_info=True
            )
        model, info = loaded
        if info["missing_keys"]:
            raise DanteError(
                f"tensors of layer {number} are missing in {str(self.source)!r}: "
                f"{', '.join(sorted(info['missing_keys'])[:5])}",
                where=self.source.where,
                allowed="a file that holds every tensor of the model",
                fix="save or copy the model again",
            )
        result: PreTrainedModel = model.eval()
        return result

    def _read(self, number: int) -> Iterator[tuple[str, Tensor]]:
        for path, names in self._files.items():
            wanted = {name: renamed for name in names if (renamed := _as_first(name, number)) is not None}
            if not wanted:
                continue
            with safe_open(path, framework="pt") as file:
                for name, renamed in wanted.items():
                    yield renamed, file.get_tensor(name)


@torch.no_grad()
def run_layer(
    model: PreTrainedModel, states: Sequence[Tensor], first: bool, show: Sequence[nn.Module] = ()
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Run texts through a model's only layer, one after the other.

    Args:
        model: see `LayerByLayer.load`; its final norm is taken away.
        states: of each text what enters the layer [tokens, width]; of the first layer the token ids [tokens].
        first: whether this is the first layer.
        show: modules of the layer whose inputs are wanted.

    Yields:
        of each text what leaves the layer [tokens, width], and the inputs [tokens, width] of the modules in `show`.
    """
    decoder: Any = model.get_decoder()
    decoder.norm = nn.Identity()
    if not first and hasattr(decoder, "embedding_multiplier"):  # Granite scales whatever it takes for an embedding
        decoder.embedding_multiplier = 1.0
    seen: dict[int, Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, key=key: seen.__setitem__(key, inputs[0][0]))
        for key, module in enumerate(show)
    ]
    try:
        for state in states:
            given = {"input_ids" if first else "inputs_embeds": state[None]}
            output = decoder(**given, use_cache=False).last_hidden_state[0]
            yield output, [seen[key] for key in range(len(show))]
    finally:
        for hook in hooks:
            hook.remove()


def _as_first(name: str, number: int) -> str | None:
    """A tensor's name where the layer is the only one; None for tensors of other layers."""
    match = _LAYER.match(name)
    if match is None:
        return name
    return f"{match['before']}0{match['after']}" if int(match["number"]) == number else None


def _tensor_files(source: Source) -> dict[Path, list[str]]:
    """Which tensors each file of a folder or hub id holds."""
    index = _find(source, INDEX)
    if index is not None:
        weight_map: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        paths = {file: _find(source, file) for file in sorted(set(weight_map.values()))}
        return {
            path: [name for name, there in weight_map.items() if there == file]
            for file, path in paths.items()
            if path is not None
        }
    whole = _find(source, WEIGHTS)
    assert whole is not None  # `check_config` has refused what has no weights
    with safe_open(whole, framework="pt") as file:
        return {whole: list(file.keys())}


def _find(source: Source, name: str) -> Path | None:
    folder = local_folder(source.name)
    if folder is not None:
        path = folder.resolve() / name
        return path if path.is_file() else None
    found = cached_file(
        str(source), name, revision=source.revision or "main", _raise_exceptions_for_missing_entries=False
    )
    return Path(found) if found is not None else None
