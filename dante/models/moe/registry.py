"""Which adapter belongs to a model: one line per architecture."""

from typing import Any

from transformers import PreTrainedConfig

from dante.errors import DanteError
from dante.models.moe.adapter import Adapter
from dante.models.moe.adapters.deepseek_v3 import DeepseekV3
from dante.models.moe.adapters.glm4_moe import Glm4Moe
from dante.models.moe.adapters.gpt_oss import GptOss
from dante.models.moe.adapters.granitemoeshared import GraniteMoeShared
from dante.models.moe.adapters.laguna import Laguna
from dante.models.moe.adapters.mixtral import Mixtral
from dante.models.moe.adapters.olmoe import Olmoe
from dante.models.moe.adapters.qwen3_moe import Qwen3Moe

_ALL: tuple[Adapter, ...] = (
    DeepseekV3(),
    Glm4Moe(),
    GptOss(),
    GraniteMoeShared(),
    Laguna(),
    Mixtral(),
    Olmoe(),
    Qwen3Moe(),
)
ADAPTERS: dict[str, Adapter] = {adapter.model_type: adapter for adapter in _ALL}


def adapter_for(config: PreTrainedConfig, where: str) -> Adapter:
    """The adapter of a model's architecture.

    Args:
        config: of the decoder.
        where: key that names the model, for messages.

    Raises:
        DanteError: there is none.
    """
    kind: Any = getattr(config, "model_type", None)
    if kind not in ADAPTERS:
        raise DanteError(
            f"nothing here knows the sparse blocks of a {kind}",
            where=where,
            allowed=", ".join(ADAPTERS),
            fix="name a mixture of one of these kinds, or write an adapter (dante/models/moe/adapter.py): which layers "
            "are sparse, the router's weights and choices, each expert's gate, up and down, the shared expert, the "
            "scaling, and how the class stores one expert that is always on",
        )
    return ADAPTERS[kind]
