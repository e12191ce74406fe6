"""The attention `documents` of transformers: causal inside each document of a packed row, and no mask.

The layers of a model call it through transformers' `AttentionInterface`; `choose.py` chooses it. It refuses what would
let records see each other: a mask or a cache beside lengths, positions that restart where nobody named lengths, and
what an attention layer does to its scores that is not known here.
"""

import importlib.util
import inspect
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from dante.errors import DanteError
from dante.students.attention.kernel import attend

DOCUMENTS = "documents"
_OLDEST_FLASH_CAPABILITY = (8, 0)
# What a layer may hand to its attention beside the plain case: each changes the scores.
_UNKNOWN = ("softcap", "s_aux", "position_bias")


# Not traced: how many documents a row has, and how long they are, differs from row to row.
@torch.compiler.disable
def document_attention(
    module: nn.Module,
    query: Float[Tensor, "rows heads tokens width"],
    key: Float[Tensor, "rows key_heads all_tokens width"],
    value: Float[Tensor, "rows key_heads all_tokens value_width"],
    attention_mask: Tensor | None,
    document_tokens: tuple[int, ...] | None = None,
    document_ends: Tensor | None = None,
    position_ids: Tensor | None = None,
    sliding_window: int | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Float[Tensor, "rows tokens heads value_width"], None]:
    """The attention function `documents` of transformers: causal inside each document of one packed row.

    Without `document_tokens` (evaluation, generation) every row is one document and transformers' sdpa runs it.

    Args:
        module: the attention layer.
        query, key, value: projected and rotated.
        attention_mask: with `document_tokens` None; else what sdpa takes.
        document_tokens: tokens of each document of the row.
        document_ends: the same as offsets, 0 first; int32, where the queries are. Needed on CUDA only.
        position_ids: positions inside each document.
        sliding_window: most recent tokens that a token may see, itself included; None: all.
        scaling: factor on the scores; None: 1/√width.
        dropout: of the probabilities.
        **kwargs: what else the layer hands over.

    Raises:
        DanteError: records would see each other, or the layer does something to its scores that is not known here.
    """
    _check_layer(module, sliding_window, kwargs)
    if torch.is_autocast_enabled(query.device.type):
        # As autocast does for sdpa: rotation leaves queries and keys in fp32, values are bf16.
        half = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(half), key.to(half), value.to(half)
    if document_tokens is None:
        return _whole_rows(module, query, key, value, attention_mask, position_ids, sliding_window, scaling, dropout)
    if attention_mask is not None or query.shape[0] != 1 or not query.shape[2] == key.shape[2] == sum(document_tokens):
        raise DanteError(
            f"documents of {sum(document_tokens)} tokens, but {query.shape[0]} × {query.shape[2]} queries, "
            f"{key.shape[2]} keys and {'a' if attention_mask is not None else 'no'} mask",
            where="attention of a packed row",
            allowed="one row, no attention mask and no cache: else records would see each other",
        )
    q_THD, k_THD, v_THD = (part[0].transpose(0, 1) for part in (query, key, value))
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if query.device.type == "cpu" and dropout == 0.0:
        return attend(q_THD, k_THD, v_THD, document_tokens, scale, sliding_window)[None], None
    if _varlen_takes(query, value) and dropout == 0.0 and document_ends is not None:
        attended = _varlen(q_THD, k_THD, v_THD, document_ends, max(document_tokens), scale, sliding_window)
        return attended[None], None
    outputs = []
    for q, k, v in zip(*(part.split(document_tokens, dim=2) for part in (query, key, value)), strict=True):
        outputs.append(sdpa_attention_forward(module, q, k, v, _band(q, sliding_window), dropout, scaling)[0])
    return torch.cat(outputs, dim=1), None


def _whole_rows(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    position_ids: Tensor | None,
    window: int | None,
    scaling: float | None,
    dropout: float,
) -> tuple[Tensor, None]:
    square = query.shape[2] == key.shape[2]
    if mask is None and square and position_ids is not None and bool((position_ids.diff(dim=-1) != 1).any()):
        raise DanteError(
            "positions restart inside a row, and nobody said how long its documents are",
            where="attention of a packed row",
            allowed="document_tokens beside position_ids",
            fix="run packed rows through the training step, or set the model's attention to sdpa",
        )
    if mask is None and square:
        mask = _band(query, window)
    return sdpa_attention_forward(module, query, key, value, mask, dropout, scaling)[0], None


def _check_layer(module: nn.Module, window: int | None, kwargs: dict[str, Any]) -> None:
    unknown = [name for name in _UNKNOWN if kwargs.get(name) is not None]
    if kwargs.get("is_causal") is False or not getattr(module, "is_causal", True):
        unknown.append("is_causal=False")
    layers = getattr(getattr(module, "config", None), "layer_types", None)
    index = getattr(module, "layer_idx", None)
    if layers is not None and index is not None and layers[index] == "sliding_attention" and window is None:
        unknown.append("a sliding window that the layer does not name")
    if unknown:
        raise DanteError(
            f"{type(module).__name__} uses {', '.join(unknown)}, which fit.attention=documents does not know",
            where="fit.attention",
            fix="fit.attention=sdpa",
        )


def _band(query: Tensor, window: int | None) -> Tensor | None:
    """Which of a document's tokens each of its tokens sees, where a window leaves some of them out."""
    tokens = query.shape[2]
    if window is None or tokens <= window:
        return None
    place = torch.arange(tokens, device=query.device)
    distance = place[:, None] - place[None, :]
    return ((distance >= 0) & (distance < window))[None, None]


def _varlen_takes(query: Tensor, value: Tensor) -> bool:
    half = query.dtype in (torch.bfloat16, torch.float16)
    return half and query.device.type == "cuda" and query.shape[-1] == value.shape[-1] <= 256 and has_varlen_kernel()


def has_varlen_kernel() -> bool:
    """Whether this torch has a varlen flash kernel with grouped heads and windows, and the GPU runs it."""
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return False
    from torch.nn.attention.varlen import varlen_attn

    parameters = inspect.signature(varlen_attn).parameters
    enough = {"enable_gqa", "window_size", "scale"} <= set(parameters)
    return enough and torch.cuda.is_available() and torch.cuda.get_device_capability() >= _OLDEST_FLASH_CAPABILITY


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scale: float, window: int | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    seen = (window - 1 if window is not None else -1, 0)
    grouped = query.shape[1] != key.shape[1]
    attended = varlen_attn(
        query, key, value, ends, ends, longest, longest, scale=scale, window_size=seen, enable_gqa=grouped
    )
    assert isinstance(attended, Tensor)
    return attended


def _document_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """transformers' mask for `documents`: none for plain rows, sdpa's wherever padding or a cache needs one."""
    if kwargs.get("attention_mask") is not None:
        # Also where nothing is padded: beside document lengths a mask is a mistake whatever it holds.
        return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})
    whole = kwargs["q_length"] == kwargs["kv_length"] and kwargs.get("q_offset", 0) == 0
    return None if whole else sdpa_mask(*args, **kwargs)


AttentionInterface.register(DOCUMENTS, document_attention)
AttentionMaskInterface.register(DOCUMENTS, _document_mask)
