"""What two models of one family have in common, copied from one to the other."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dante.students.dense_form import decoder_layers


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
