"""Mixtral: every layer sparse, softmax over all experts, the best normalised."""

from dante.models.moe.adapters.packed import Packed


class Mixtral(Packed):
    """See the module."""

    model_type = "mixtral"
    experts_key, expert_size_key = "num_local_experts", "intermediate_size"
