"""Students: loading offline, counting, pruning, and the init stage's folder as plain transformers sees it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from dante.errors import DanteError
from dante.run.config.schema import Student
from dante.run.step import Step
from dante.students.init.keep_layers import keep_layers
from dante.students.load import build_meta, count_parameters, load_student
from dante.students.stage import run
from dante.text.chat import ChatRenderer
from dante.text.system_prompt import inserted
from dante.text.tokenizer import load_tokenizer

torch.set_num_threads(1)
SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
TYPES = {
    "llama": {},
    "smollm3": {},  # a NoPE layer every fourth
    "qwen3": {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 3},
    "gemma2": {"head_dim": 8, "sliding_window": 4},  # alternating windows
}
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny(model_type: str = "llama", **change: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**SHAPE, **TYPES[model_type], **change})
    return AutoModelForCausalLM.from_config(config).eval()


def tokenizer(template: str = CHATML) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i + 2 for i, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|im_end|>")
    made.chat_template = template
    return made


@pytest.mark.parametrize("model_type", TYPES)
@torch.no_grad()
def test_a_pruned_model_reloads_with_equal_logits(tmp_path, model_type):
    """Short sequences hide nothing: the windows are 4 tokens, the text 24, so every layer's own kind shows."""
    model, ids = tiny(model_type), torch.arange(24)[None] + 5
    whole = model(input_ids=ids).logits
    kept = [0, 2, 3, 5]
    expected_types = [getattr(model.config, "layer_types", None) or ["full_attention"] * 6][0]
    keep_layers(model, kept)
    pruned = model(input_ids=ids).logits
    assert (pruned - whole).abs().max() > 1e-4, "layers were dropped"
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(reloaded(input_ids=ids).logits, pruned, atol=1e-6, rtol=1e-6)
    assert reloaded.config.num_hidden_layers == 4
    if hasattr(model.config, "layer_types"):
        assert list(reloaded.config.layer_types) == [expected_types[index] for index in kept]
    generated = reloaded.generate(ids, max_new_tokens=4, do_sample=False)
    torch.testing.assert_close(generated, model.generate(ids, max_new_tokens=4, do_sample=False))


@torch.no_grad()
def test_the_smollm3_test_model_depends_on_its_per_layer_list():
    """Otherwise the test above could not see a list that was cut instead of selected."""
    model, ids = tiny("smollm3"), torch.arange(24)[None] + 5
    kept = keep_layers(model, [0, 2, 3, 5])
    assert list(kept.config.no_rope_layers) == [1, 1, 0, 1]
    wrong = AutoConfig.for_model("smollm3", **{**SHAPE, "num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0]})
    other = AutoModelForCausalLM.from_config(wrong).eval()
    other.load_state_dict(kept.state_dict())
    assert (other(input_ids=ids).logits - kept(input_ids=ids).logits).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([0, 6], "layer 6 does not exist: there are 6"),
        ([-1, 2], "layer -1 does not exist"),
        ([0, 2, 2], "layer 2 is named twice"),
        ([0, 3, 1], "layer 1 stands after layer 3"),
        ([], "no layer is kept"),
    ],
)
def test_wrong_layers_are_named(layers, said):
    with pytest.raises(DanteError, match=said) as caught:
        keep_layers(tiny(), layers)
    assert caught.value.where == "student.init.layers"


def test_parameters_on_meta_equal_those_in_memory_and_tied_ones_count_once():
    tied, untied = tiny(), tiny(tie_word_embeddings=False)
    architecture = {"model_type": "llama", **SHAPE}
    meta = build_meta(architecture)
    assert {parameter.device.type for parameter in meta.parameters()} == {"meta"}
    assert count_parameters(meta) == count_parameters(tied) == count_parameters(untied) - 300 * 32
    assert count_parameters(build_meta({**architecture, "tie_word_embeddings": False})) == count_parameters(untied)
    assert count_parameters(meta, embeddings=False) == count_parameters(tied) - 300 * 32
    assert count_parameters(untied, embeddings=False) == count_parameters(tied, embeddings=False)


def test_published_sizes_are_reproduced():
    """SmolLM3-3B has 3.075 B parameters (its model card), SmolLM2-135M 134.5 M."""
    smollm3 = build_meta(
        {
            "model_type": "smollm3",
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "tie_word_embeddings": True,
        }
    )
    assert count_parameters(smollm3) == 3_075_098_624
    assert count_parameters(smollm3, embeddings=False) == 3_075_098_624 - 128256 * 2048


def test_unknown_architecture_keys_are_answered_with_a_suggestion():
    with pytest.raises(DanteError, match=r"hiden_size.*did you mean 'hidden_size'"):
        build_meta({"model_type": "llama", "hiden_size": 32})
    with pytest.raises(DanteError, match=r"'lama'.*did you mean"):
        build_meta({"model_type": "lama"})
    assert build_meta({"model_type": "llama", **SHAPE, "rope_theta": 5e4}).config.rope_parameters["rope_theta"] == 5e4


def test_weights_that_are_not_here_are_one_clear_error():
    for load in (load_student, load_tokenizer):
        with pytest.raises(DanteError, match=r"nobody/nothing.*student\.source.*hf download nobody/nothing"):
            load("nobody/nothing")


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    folder = tmp_path / "teacher"
    tiny("smollm3").save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    record = {"name": "tiny", "model": "model", "local": True, "revision": None, "licence": "MIT", "sha256": None}
    (folder / "teacher.json").write_text(json.dumps({**record, "chat_template": True}))
    return folder


KEEP = {"_target_": "dante.students.init.keep_layers.KeepLayers"}
DRAW = {"_target_": "dante.students.init.draw_anew.DrawAnew"}


def init_step(teacher: Path, **change: Any) -> Step:
    settings = {
        "name": "tiny-4of6",
        "source": "teacher",
        "revision": None,
        "init": KEEP | {"layers": [0, 2, 3, 5]},
        "dtype": "float32",
        "licence": "MIT",
        "architecture": {"model_type": "smollm3", **SHAPE},
        "chat": {},
        "system_prompt": None,
        **change,
    }
    typed = Student.model_construct(**settings)
    return Step("init", "init", typed, {}, {"teacher": teacher}, teacher.parent / "init", "", seed=7)


@torch.no_grad()
def test_init_writes_a_folder_that_plain_transformers_loads(teacher):
    step = init_step(teacher)
    step.out.mkdir()
    (step.out / "model").mkdir()
    (step.out / "model" / "model.safetensors").write_bytes(b"half")  # what a killed attempt left
    run(step)
    model = AutoModelForCausalLM.from_pretrained(step.out / "model").eval()
    source = AutoModelForCausalLM.from_pretrained(teacher / "model").eval()
    ids = torch.arange(24)[None] + 5
    torch.testing.assert_close(model(input_ids=ids).logits, keep_layers(source, [0, 2, 3, 5])(input_ids=ids).logits)
    assert model.config.use_cache, "our training switches do not leave the lab"
    renderer = ChatRenderer(AutoTokenizer.from_pretrained(step.out / "model"))
    assert model.generation_config.eos_token_id[0] == renderer.end_of_turn_id
    record = json.loads((step.out / "init.json").read_text())
    assert record["parameters"] == count_parameters(model)
    assert {name: record[name] for name in ("name", "source", "layers", "weights", "licence")} == {
        "name": "tiny-4of6",
        "source": "teacher",
        "layers": [0, 2, 3, 5],
        "weights": "pretrained",
        "licence": "MIT",
    }
    student = load_student(step.out / "model")
    assert student.config.use_cache is False
    assert student.config._attn_implementation == "sdpa"


def test_random_weights_keep_the_shape_and_follow_the_seed(teacher):
    def weights(**change: Any) -> dict[str, torch.Tensor]:
        step = init_step(teacher, **change)
        run(step)
        return AutoModelForCausalLM.from_pretrained(step.out / "model").state_dict()

    generator = torch.random.get_rng_state()
    pretrained, first, again, other = (
        weights(),
        *(weights(init=DRAW | {"layers": [0, 2, 3, 5], "seed": seed}) for seed in (0, 0, 1)),
    )
    assert torch.equal(generator, torch.random.get_rng_state())
    name = "model.layers.2.self_attn.q_proj.weight"
    assert {n: t.shape for n, t in pretrained.items()} == {n: t.shape for n, t in first.items()}
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not torch.equal(first[name], pretrained[name])
    assert not torch.equal(first[name], other[name])


def test_dtype_is_stored(teacher):
    step = init_step(teacher, dtype="bfloat16", init=KEEP | {"layers": None})
    run(step)
    assert AutoModelForCausalLM.from_pretrained(step.out / "model", dtype="auto").dtype == torch.bfloat16
    assert load_student(step.out / "model").dtype == torch.float32


def test_template_variables_are_baked_in(teacher):
    think = CHATML.replace("assistant\n' }}{% endif", "assistant\n' + ('<t>' if think else '') }}{% endif")
    tokenizer(think).save_pretrained(teacher / "model")
    step = init_step(teacher, chat={"think": False})
    run(step)
    baked = load_tokenizer(step.out / "model")
    messages = [{"role": "user", "content": "Hi"}]
    options = {"tokenize": False, "add_generation_prompt": True}
    assert baked.apply_chat_template(messages, **options).endswith("assistant\n")
    assert baked.apply_chat_template(messages, think=True, **options).endswith("<t>")


@pytest.mark.parametrize(("wanted", "seen"), [(None, None), ("Be brief.", "Be brief."), ("", None)])
def test_a_system_prompt_of_one_s_own_is_stored_in_the_template(teacher, wanted, seen):
    step = init_step(teacher, system_prompt=wanted)
    run(step)
    stored = load_tokenizer(step.out / "model")
    assert inserted(stored, {}) == seen
    assert json.loads((step.out / "init.json").read_text())["inserted_system_prompt"] == seen
    assert ("Be brief." in str(stored.chat_template)) == (wanted == "Be brief.")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": {"model_type": "smollm3", **SHAPE, "hidden_size": 64}}, r"hidden_size: 64.*hidden_size: 32"),
        ({"architecture": {"model_type": "llama", **SHAPE}}, r"model_type: llama.*smollm3"),
        ({"dtype": "fp8"}, r"'fp8'.*student\.dtype"),
        ({"source": "nobody/nothing"}, r"nobody/nothing.*HF_HUB_OFFLINE"),
        ({"init": KEEP | {"layers": [0, 9]}}, "layer 9 does not exist"),
        ({"chat": {"think": [1]}}, r"no value for a template variable.*chat\.think"),
    ],
)
def test_wrong_settings_are_named(teacher, change, said):
    with pytest.raises(DanteError, match=said):
        run(init_step(teacher, **change))


def test_a_tokenizer_larger_than_the_embedding_is_refused(teacher):
    tiny("smollm3", vocab_size=200).save_pretrained(teacher / "model")
    with pytest.raises(DanteError, match="258 tokens, the embedding 200 rows"):
        run(init_step(teacher, architecture={}))
