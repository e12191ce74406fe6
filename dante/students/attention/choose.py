"""Attention of packed rows: which implementation runs, and what it is told about a row.

| `fit.attention` | a row of documents of Lᵢ tokens costs | runs on |
|---|---|---|
| `documents` | Σ Lᵢ², no mask (on a CPU `kernel`, on CUDA torch's varlen flash kernel) | CPU, CUDA |
| `flash_attention_2` | Σ Lᵢ², no mask (package `flash_attn`, or transformers' kernels) | CUDA |
| `flex` | blocks of 128 × 128 that hold an allowed pair (torch's FlexAttention, compiled) | CUDA |
| `sdpa` | (Σ Lᵢ)²: a dense block-diagonal mask that transformers makes from `position_ids` | everywhere |

Whatever runs, documents must not see each other. sdpa and flex keep them apart by positions that restart, and only
without a cache and without an attention mask; `documents` and flash attention are told the lengths.
`tests/test_isolation.py` proves it per architecture and implementation.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from transformers import PreTrainedModel, masking_utils
from transformers.utils import is_flash_attn_2_available, is_kernels_available

from dante import console
from dante.errors import DanteError
from dante.students.attention.documents import DOCUMENTS, has_varlen_kernel

AUTO = "auto"


@runtime_checkable
class PackedRow(Protocol):
    """What attention wants to know of a row of several records.

    Attributes:
        document_tokens: tokens of each document of the row; empty: not told.
        document_ends: the same as offsets into the row, 0 first, on the row's device.
    """

    @property
    def document_tokens(self) -> tuple[int, ...]: ...

    @property
    def document_ends(self) -> Tensor | None: ...


def use_attention(student: PreTrainedModel, requested: str, device_type: str, whose: str = "") -> str:
    """Switch a student to an implementation, and say on the terminal which one it is.

    Args:
        student: causal language model; only its config changes.
        requested: `fit.attention`.
        device_type: where it will train: `cpu` or `cuda`.
        whose: before the message on the terminal, where it is not the student's.

    Returns:
        the implementation, by its name in `fit.attention`.

    Raises:
        DanteError: it is not available for this model on this device.
    """
    if requested == AUTO:
        chosen = next(name for name in _preferred(device_type) if obstacle(name, student, device_type) is None)
    else:
        chosen = requested
        reason = obstacle(chosen, student, device_type)
        if reason is not None:
            usable = [name for name in _OBSTACLES if obstacle(name, student, device_type) is None]
            raise DanteError(
                f"attention {chosen} cannot run: {reason}",
                where="fit.attention",
                allowed=", ".join((AUTO, *usable)),
                fix="fit.attention=auto takes the fastest that can",
            )
    try:
        student.set_attn_implementation(_TRANSFORMERS_NAMES.get(chosen, chosen))
    except (ImportError, OSError, ValueError) as error:
        raise DanteError(
            f"attention {chosen} cannot run: {str(error).strip().splitlines()[0]}",
            where="fit.attention",
            fix="fit.attention=auto takes the fastest that can",
        ) from error
    console.info(
        f"  {whose}attention of packed rows: {chosen}{' (chosen by fit.attention=auto)' if requested == AUTO else ''}"
    )
    return chosen


def obstacle(name: str, student: PreTrainedModel, device_type: str) -> str | None:
    """Why an implementation cannot run a student's packed rows on a kind of device; None: it can."""
    return _OBSTACLES[name](student, device_type)


def row_inputs(student: PreTrainedModel, batch: PackedRow) -> dict[str, Any]:
    """What the student's attention wants to know of a row, beside tokens and positions: arguments of its backbone."""
    implementation = student.config._attn_implementation
    if not batch.document_tokens and _told_lengths(student):
        raise DanteError(
            "a row does not say how long its documents are",
            where=f"attention {implementation}",
            fix="make the row with dante.data.batch.assemble, or add dante.data.batch.documents(lengths) to its fields",
        )
    if implementation == DOCUMENTS:
        return {"document_tokens": batch.document_tokens, "document_ends": batch.document_ends}
    if "flash" in implementation:
        ends, longest = batch.document_ends, max(batch.document_tokens)
        return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
    return {}


@contextmanager
def no_search_for_documents(student: PreTrainedModel) -> Iterator[None]:
    """Where lengths are told, keep transformers from looking for documents in the positions.

    Its answer would not be used, and to decide whether there are several it waits for the device in every forward.
    """
    if not _told_lengths(student):
        yield
        return
    search = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = search


def _told_lengths(student: PreTrainedModel) -> bool:
    implementation = str(student.config._attn_implementation)
    return implementation == DOCUMENTS or "flash" in implementation


def _preferred(device_type: str) -> tuple[str, ...]:
    """Fastest first. transformers would fetch flash attention's kernel from the hub where the package is missing, and
    torch's own varlen kernel is the same algorithm: only an installed package comes first."""
    if device_type == "cpu":
        return DOCUMENTS, "sdpa"
    installed = ("flash_attention_2",) if is_flash_attn_2_available() else ()
    return *installed, DOCUMENTS, "flex", "sdpa"


def _documents_obstacle(student: PreTrainedModel, device_type: str) -> str | None:
    if not student._can_set_attn_implementation():
        return f"{type(student).__name__} does not let its attention be exchanged"
    config = student.config.get_text_config()
    unknown = set(getattr(config, "layer_types", None) or []) - {"full_attention", "sliding_attention"}
    if unknown:
        return f"{type(student).__name__} has layers of another kind ({', '.join(sorted(unknown))})"
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return f"{type(student).__name__} caps its attention scores"
    if device_type == "cuda" and not has_varlen_kernel():
        return "this torch has no varlen flash kernel for this GPU"
    return None


def _flash_obstacle(student: PreTrainedModel, device_type: str) -> str | None:
    if device_type != "cuda":
        return "it needs a CUDA device"
    if not student._supports_flash_attn:
        return f"{type(student).__name__} does not support it"
    if not torch.cuda.is_available():
        return "there is no CUDA device here"
    if not (is_flash_attn_2_available() or is_kernels_available()):
        return "neither the package flash_attn nor the package kernels is installed"
    return None


def _flex_obstacle(student: PreTrainedModel, device_type: str) -> str | None:
    if device_type != "cuda":
        return "torch's FlexAttention has no backward on a CPU"
    return None if student._supports_flex_attn else f"{type(student).__name__} does not support it"


def _sdpa_obstacle(student: PreTrainedModel, device_type: str) -> str | None:
    return None if student._supports_sdpa else f"{type(student).__name__} does not support it"


_OBSTACLES: dict[str, Callable[[PreTrainedModel, str], str | None]] = {
    DOCUMENTS: _documents_obstacle,
    "flash_attention_2": _flash_obstacle,
    "flex": _flex_obstacle,
    "sdpa": _sdpa_obstacle,
}
_TRANSFORMERS_NAMES = {"flex": "flex_attention"}
