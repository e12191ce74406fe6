"""Tiny GGUF files, written as llama.cpp's converter writes them: a qwen2 with the smoke tokenizer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from transformers import Qwen2Config, Qwen2ForCausalLM

from dante.teachers.smoke import smoke_tokenizer

LAYERS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def tiny_qwen(tied: bool, seed: int = 0) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=tied,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


def write_gguf(
    path: Path,
    model: Qwen2ForCausalLM,
    *,
    architecture: str = "qwen2",
    template: bool = True,
    types: dict[str, GGMLQuantizationType] | None = None,
    licence: str | None = "apache-2.0",
) -> Path:
    """Write a model; `types` says how a tensor is stored, by its name in the file (F32 for all others)."""
    tokenizer: Any = smoke_tokenizer()
    config: Any = model.config
    writer = GGUFWriter(path, architecture)
    writer.add_name("Tiny Qwen")
    if licence is not None:
        writer.add_license(licence)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    _add_tokenizer(writer, tokenizer, template)
    names = dict(_named(model))
    if types and "output.weight" in types and "output.weight" not in names:
        names["output.weight"] = names["token_embd.weight"]
    for name, values in names.items():
        kind = (types or {}).get(name)
        if kind is None:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: GGUFWriter, tokenizer: Any, template: bool) -> None:
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) if isinstance(merge, list) else merge for merge in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if template:
        writer.add_chat_template(tokenizer.chat_template)


def _named(model: Qwen2ForCausalLM) -> list[tuple[str, np.ndarray]]:
    named = []
    for name, parameter in model.named_parameters():
        stem, kind = name.rsplit(".", 1)
        if stem in TOP:
            ours = TOP[stem]
        else:
            _, _, layer, part = stem.split(".", 3)
            ours = f"blk.{layer}.{LAYERS[part]}"
        named.append((f"{ours}.{kind}", parameter.detach().float().numpy()))
    return named
