"""Records of a packed row do not see each other: every architecture, every attention, value and gradient.

The reference is each record alone, in transformers' sdpa. The last part makes the known mistakes on purpose and checks
that this file's measure sees them.
"""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from dante.data.batch import documents
from dante.errors import DanteError
from dante.students.attention.choose import obstacle, row_inputs, use_attention

torch.set_num_threads(1)
VOCABULARY = 97
LENGTHS = (
    7,
    1,
    19,
    16,
    140,
    6,
)  # one token, one longer than a tile of the kernel, pairs that are padded to one another
WINDOW = 5
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,  # large enough that attention to a neighbour would show
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
_MIXED_LAYERS = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": WINDOW}
_EXPERTS = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "smollm3": {"model_type": "smollm3", "no_rope_layers": [1, 1, 0, 1]},
    "smollm3-window": {
        "model_type": "smollm3",
        "no_rope_layers": [1, 1, 0, 1],
        "use_sliding_window": True,
        **_MIXED_LAYERS,
    },
    "qwen3": {"model_type": "qwen3", "head_dim": 8},
    "qwen3-window": {"model_type": "qwen3", "head_dim": 8, "use_sliding_window": True, **_MIXED_LAYERS},
    "laguna": {
        "model_type": "laguna",
        "head_dim": 8,
        "num_attention_heads_per_layer": [4, 6, 4, 6],
        "num_experts": 4,
        "shared_expert_intermediate_size": 16,
        **_EXPERTS,
        **_MIXED_LAYERS,
    },
    "glm4_moe": {
        "model_type": "glm4_moe",
        "head_dim": 8,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        **_EXPERTS,
    },
}
ON_CPU = ["documents", "sdpa"]
TOLERANCE = 2e-4  # fp32; contamination is 1000 times that, see the last tests


def student(architecture: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(**COMMON, **ARCHITECTURES[architecture])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    model.config.use_cache = False
    return model.eval()


def tokens(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(seed))


def positions() -> torch.Tensor:
    return torch.cat([torch.arange(length) for length in LENGTHS])[None]


class Row:
    """What `row_inputs` reads of a micro-batch."""

    def __init__(self) -> None:
        vars(self).update(documents(LENGTHS))


def packed(model: PreTrainedModel, ids: torch.Tensor, **changes: Any) -> torch.Tensor:
    """Hidden states of the row, with the backbone called as the training step calls it."""
    inputs = {"position_ids": positions().to(ids.device), "use_cache": False, **told(model, ids.device), **changes}
    return model.base_model(input_ids=ids, **inputs).last_hidden_state[0]


def told(model: PreTrainedModel, device: torch.device) -> dict[str, Any]:
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in row_inputs(model, Row()).items()}


def alone(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Hidden states of each record in a row of its own, by sdpa."""
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    states = [model.base_model(input_ids=p[None], use_cache=False).last_hidden_state[0] for p in ids[0].split(LENGTHS)]
    model.set_attn_implementation(before)
    return torch.cat(states)


def gradients(model: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
    """All weights' gradients of a fixed function of the states, as one vector."""
    upstream = torch.randn(states.shape, generator=torch.Generator().manual_seed(1)).to(states)
    model.zero_grad()
    states.backward(upstream)
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def difference(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return float((ours - reference).detach().abs().max() / reference.detach().abs().max())


@pytest.mark.parametrize("attention", ON_CPU)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_packed_row_equals_its_records_alone(architecture, attention):
    model = student(architecture)
    use_attention(model, attention, "cpu")
    ours, reference = packed(model, tokens()), alone(model, tokens())
    assert difference(ours, reference) < TOLERANCE
    assert difference(gradients(model, ours), gradients(model, reference)) < TOLERANCE


@pytest.mark.parametrize("attention", ON_CPU)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_other_tokens_in_one_record_change_that_record_only(architecture, attention):
    model = student(architecture)
    use_attention(model, attention, "cpu")
    changed = tokens()
    third = slice(sum(LENGTHS[:2]), sum(LENGTHS[:3]))
    changed[0, third] = (changed[0, third] + 1) % VOCABULARY
    before, after = packed(model, tokens()), packed(model, changed)
    moved = (before - after).abs().amax(dim=1)
    inside = torch.zeros(sum(LENGTHS), dtype=torch.bool)
    inside[third] = True
    assert moved[inside].min() > 1e-3
    # Experts are run on all tokens that chose them at once, which rounds by who else is there.
    assert moved[~inside].max() < 1e-5


@pytest.mark.parametrize("architecture", ["llama", "smollm3-window", "laguna"])
def test_gradients_survive_checkpointing(architecture):
    model = student(architecture).train()
    use_attention(model, "documents", "cpu")
    plain = gradients(model, packed(model, tokens()))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    torch.testing.assert_close(gradients(model, packed(model, tokens())), plain, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ["llama", "smollm3-window"])
@torch.no_grad()
def test_bf16_autocast_is_as_close_to_fp32_as_sdpa(architecture):
    """Error of `documents` against fp32, relative to that of torch's own kernel under the same autocast."""
    model = student(architecture)
    exact = alone(model, tokens())
    errors = {}
    for attention in ON_CPU:
        use_attention(model, attention, "cpu")
        with torch.autocast("cpu", torch.bfloat16):
            errors[attention] = (packed(model, tokens()).float() - exact).square().mean().sqrt()
    assert errors["documents"] < 1.2 * errors["sdpa"]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_flex_attention_keeps_records_apart_on_a_cpu_forward(architecture):
    """torch compiles FlexAttention for a CPU without a backward: values only."""
    model = student(architecture)
    model.set_attn_implementation("flex_attention")
    assert difference(packed(model, tokens()), alone(model, tokens())) < TOLERANCE


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["documents", "flash_attention_2", "flex", "sdpa"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_on_a_gpu_a_packed_row_equals_its_records_alone(architecture, attention):
    model = student(architecture).to("cuda")
    reason = obstacle(attention, model, "cuda")
    if reason is not None:
        pytest.skip(reason)
    use_attention(model, attention, "cuda")
    ids = tokens().to("cuda")
    with torch.autocast("cuda", torch.bfloat16):
        ours, reference = packed(model, ids), alone(model, ids)
    assert difference(ours, reference) < 0.05
    assert difference(gradients(model, ours), gradients(model, reference)) < 0.05


# --- the known mistakes, made on purpose ---


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(lambda row: {"use_cache": True}, id="use_cache left on"),
        pytest.param(lambda row: {"attention_mask": torch.ones_like(row)}, id="a mask of ones"),
        pytest.param(lambda row: {"position_ids": torch.arange(row.shape[1])[None]}, id="positions not reset"),
    ],
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_sdpa_mixes_records_after_a_mistake_and_this_file_sees_it(architecture, mistake):
    model = student(architecture)
    assert difference(packed(model, tokens(), **mistake(tokens())), alone(model, tokens())) > 100 * TOLERANCE


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_documents_refuses_a_mask_and_is_right_with_a_cache(architecture):
    model = student(architecture)
    use_attention(model, "documents", "cpu")
    with pytest.raises(DanteError, match="a mask"):
        packed(model, tokens(), attention_mask=torch.ones_like(tokens()))
    assert difference(packed(model, tokens(), use_cache=True), alone(model, tokens())) < TOLERANCE


@torch.no_grad()
def test_documents_refuses_rows_that_it_cannot_lay_out():
    model = student("llama")
    use_attention(model, "documents", "cpu")
    with pytest.raises(DanteError, match="positions restart"):
        model.base_model(input_ids=tokens(), position_ids=positions(), use_cache=False)
    with pytest.raises(DanteError, match="documents of 8 tokens, but 1 × 189 queries"):
        packed(model, tokens(), document_tokens=(5, 3))
    with pytest.raises(DanteError, match="but 2 × 189 queries"):
        packed(model, tokens().repeat(2, 1))


@torch.no_grad()
def test_documents_are_apart_even_where_positions_run_on():
    """Attention by lengths isolates whatever the positions say."""
    model = student("llama")
    use_attention(model, "documents", "cpu")
    running = packed(model, tokens(), position_ids=torch.arange(sum(LENGTHS))[None])
    assert difference(running, alone(model, tokens())) < TOLERANCE, "RoPE sees distances only"


# --- outside training, and choices ---


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_documents_generates_and_scores_padded_batches_as_sdpa_does(architecture):
    model = student(architecture)
    ids = tokens()[:, :24].reshape(2, 12)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    expected = model(ids, attention_mask=mask).logits[mask.bool()], model(ids).logits
    written = model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False, use_cache=True)
    use_attention(model, "documents", "cpu")
    torch.testing.assert_close(model(ids, attention_mask=mask).logits[mask.bool()], expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(ids).logits, expected[1], rtol=1e-4, atol=1e-4)
    again = model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False, use_cache=True)
    assert torch.equal(written, again)


def test_auto_takes_documents_on_a_cpu_and_sdpa_where_scores_are_capped():
    assert use_attention(student("llama"), "auto", "cpu") == "documents"
    capped = AutoConfig.for_model("gemma2", **COMMON, head_dim=8)
    model = AutoModelForCausalLM.from_config(capped, attn_implementation="eager")
    assert "caps its attention scores" in obstacle("documents", model, "cpu")
    assert use_attention(model, "auto", "cpu") == "sdpa"


@pytest.mark.parametrize("attention", ["flex", "flash_attention_2"])
def test_what_is_not_available_is_refused_with_what_is(attention):
    with pytest.raises(DanteError, match=r"fit\.attention.*auto, documents, sdpa"):
        use_attention(student("llama"), attention, "cpu")
