"""A tiny random mixture of every architecture that has an adapter, and what is asked of all of them."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

HIDDEN = 32
_COMMON: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
#: What is unusual in an architecture is in its config here: groups, scalings, dense layers, multipliers.
CONFIGS: dict[str, dict[str, Any]] = {
    "laguna": {
        "intermediate_size": 80,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_routed_scaling_factor": 2.5,
        "head_dim": 8,
    },
    "glm4_moe": {
        "intermediate_size": 80,
        "moe_intermediate_size": 16,
        "n_routed_experts": 8,
        "num_experts_per_tok": 3,
        "n_shared_experts": 2,
        "n_group": 2,
        "topk_group": 1,
        "routed_scaling_factor": 1.7,
        "head_dim": 8,
        "num_mtp_layers": 0,
    },
    "qwen3_moe": {
        "intermediate_size": 80,
        "moe_intermediate_size": 16,
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "head_dim": 8,
        "mlp_only_layers": [1],
        "norm_topk_prob": False,
    },
    "mixtral": {"intermediate_size": 16, "num_local_experts": 6, "num_experts_per_tok": 3, "head_dim": 8},
    "deepseek_v3": {
        "intermediate_size": 80,
        "moe_intermediate_size": 16,
        "n_routed_experts": 8,
        "num_experts_per_tok": 3,
        "n_shared_experts": 1,
        "n_group": 2,
        "topk_group": 2,
        "kv_lora_rank": 8,
        "q_lora_rank": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "qk_nope_head_dim": 8,
        "num_key_value_heads": 4,
        "first_k_dense_replace": 1,
        "num_mtp_layers": 0,
    },
    "olmoe": {"intermediate_size": 16, "num_experts": 6, "num_experts_per_tok": 3},
    "gpt_oss": {"intermediate_size": 16, "num_local_experts": 6, "num_experts_per_tok": 3, "head_dim": 8},
    "granitemoeshared": {
        "intermediate_size": 16,
        "num_local_experts": 6,
        "num_experts_per_tok": 3,
        "shared_intermediate_size": 24,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "logits_scaling": 2.0,
    },
}
KINDS = sorted(CONFIGS)


def tiny_mixture(kind: str, **changes: Any) -> PreTrainedModel:
    """A random model whose sparse blocks say something: weights, biases and selection biases far from zero."""
    config = AutoConfig.for_model(kind, **(_COMMON | CONFIGS[kind] | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for name, parameter in model.named_parameters():
            if "mlp" in name or "moe" in name:
                torch.nn.init.normal_(parameter, std=0.4)
            if name.endswith("e_score_correction_bias"):  # a parameter of laguna's
                torch.nn.init.normal_(parameter, std=0.3)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                torch.nn.init.normal_(buffer, std=0.3)
    return model.eval()


def tokens(rows: int = 2, length: int = 20) -> torch.Tensor:
    return torch.randint(3, 64, (rows, length), generator=torch.Generator().manual_seed(1))


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens(), use_cache=False).logits


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference, in units of the largest value."""
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())
