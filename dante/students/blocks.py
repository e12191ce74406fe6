"""A student's repeated blocks, and how they run: recomputation in the backward pass, compilation.

| `gradient_checkpointing` | kept of every block for the backward pass |
|---|---|
| `none` | everything |
| `selective` | matrix products and attention; the rest (norms, rotations, activations) is computed again |
| `full` | its input alone: the whole forward runs twice |
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import create_selective_checkpoint_contexts
from transformers import PreTrainedModel

from dante.errors import DanteError
from dante.losses.vocabulary.head import check_head
from dante.models import mkl_linear  # noqa: F401  (its operator)

_aten = torch.ops.aten
# What is dear to compute and cheap to keep, in relation.
_KEPT = [
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    torch.ops.dante.bf16_product.default,
    _aten._scaled_dot_product_flash_attention.default,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
    _aten._scaled_dot_product_efficient_attention.default,
    _aten._scaled_dot_product_cudnn_attention.default,
]


def blocks_of(student: PreTrainedModel) -> list[nn.Module]:
    """The decoder blocks, in order.

    Raises:
        DanteError: the architecture does not name its blocks.
    """
    names = set(student._no_split_modules or ())
    blocks = [module for module in student.modules() if type(module).__name__ in names]
    if not blocks:
        raise DanteError(
            f"{type(student).__name__} does not say what its blocks are",
            where="student",
            allowed="architectures of transformers with `_no_split_modules`",
        )
    return blocks


def prepare(
    student: PreTrainedModel, gradient_checkpointing: str, compiled: bool, attention_dropout: float | None
) -> None:
    """Make a student ready for packed training rows, in place.

    Args:
        gradient_checkpointing: `none`, `selective` or `full`.
        compiled: whether `torch.compile` compiles each block (once, for all of them).
        attention_dropout: share of attention weights that is dropped in training; None: what the model's config says.

    Raises:
        DanteError: an LM head that the vocabulary pass does not reproduce, or no attention that drops anything.
    """
    student.config.use_cache = False
    student.train()
    check_head(student)
    if attention_dropout is not None:
        _set_dropout(student, attention_dropout)
    options = _CHECKPOINTING[gradient_checkpointing]()
    if options is not None:
        student.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    if compiled:
        for block in blocks_of(student):
            block.compile(dynamic=True)


def _set_dropout(student: PreTrainedModel, share: float) -> None:
    layers = [module for module in student.modules() if hasattr(module, "attention_dropout")]
    if not layers:
        raise DanteError(
            f"{type(student).__name__} has no attention dropout",
            where="fit.attention_dropout",
            fix="fit.attention_dropout=null",
        )
    for layer in layers:
        layer.attention_dropout = share  # type: ignore[assignment]


def _selective() -> dict[str, Any]:
    return {
        "use_reentrant": False,
        "context_fn": functools.partial(create_selective_checkpoint_contexts, _KEPT),
    }


_CHECKPOINTING: dict[str, Callable[[], dict[str, Any] | None]] = {
    "none": lambda: None,
    "selective": _selective,
    "full": lambda: {"use_reentrant": False},
}
