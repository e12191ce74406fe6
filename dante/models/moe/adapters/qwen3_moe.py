"""Qwen3-MoE: softmax over all experts, then the best; weights are normalised where the config says so."""

from transformers import PreTrainedConfig

from dante.models.moe.adapters.packed import Packed


class Qwen3Moe(Packed):
    """See the module."""

    model_type = "qwen3_moe"

    def sparse_layers(self, config: PreTrainedConfig) -> list[int]:
        return [
            number
            for number in range(config.num_hidden_layers)
            if number not in config.mlp_only_layers and (number + 1) % config.decoder_sparse_step == 0
        ]

    def describe_padded(self, config: PreTrainedConfig, size: int) -> None:
        config.mlp_only_layers, config.intermediate_size = list(range(config.num_hidden_layers)), size
