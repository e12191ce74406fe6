"""OLMoE: as Qwen3-MoE, every layer sparse; released models do not normalise weights."""

from dante.models.moe.adapters.packed import Packed


class Olmoe(Packed):
    """See the module."""

    model_type = "olmoe"
    expert_size_key = "intermediate_size"
