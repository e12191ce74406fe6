"""What two models of one family have in common, copied from one to the other."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dante import console
from dante.models.one_layer import LayerByLayer
from dante.students.dense_form import decoder_layers


def copied_layers(
    layers: LayerByLayer, here: PreTrainedModel, what: str
) -> Iterator[tuple[int, PreTrainedModel, nn.Module]]:
    """A model's layers one at a time, with all that `here` has in common with them copied into it already.

    Args:
        layers: of the source.
        here: a model with as many layers.
        what: names the work on the progress bar.

    Yields:
        the layer's number, the source's model of that layer alone, and the layer of `here`.
    """
    with console.progress_bar() as bar:
        for number in bar.track(range(len(layers)), description=what):
            one = layers.load(number)
            if number == 0:
                copy_ends(one, here)
            ours = decoder_layers(here)[number]
            copy_same(decoder_layers(one)[0], ours)
            yield number, one, ours


@torch.no_grad()
def copy_ends(there: PreTrainedModel, here: PreTrainedModel) -> None:
    """Everything outside the layers: embedding, final norm, head."""
    layers = {id(tensor) for tensor in _tensors(decoder_layers(there)).values()}
    ours = _tensors(here)
    for name, tensor in _tensors(there).items():
        if id(tensor) not in layers:
            ours[name].copy_(tensor)


@torch.no_grad()
def copy_same(there: nn.Module, here: nn.Module) -> None:
    """Every tensor of a module that both have under one name in one shape."""
    ours = _tensors(here)
    for name, tensor in _tensors(there).items():
        if name in ours and ours[name].shape == tensor.shape:
            ours[name].copy_(tensor)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict([*module.named_parameters(), *module.named_buffers()])
