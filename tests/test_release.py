"""The release loads where this lab does not exist, with the logits that were trained."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dante.errors import DanteError
from dante.release import stage as release
from dante.release.settings import Settings
from dante.run.config.schema import Experiment
from dante.run.step import Step

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# A process in which `import dante` fails, as on any machine that only has transformers.
STRANGER = """
import sys
sys.modules["dante"] = None
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
messages = [{"role": "user", "content": "ab ba"}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
logits = model(input_ids=ids).logits
text = tokenizer.decode(model.generate(ids, max_new_tokens=4)[0])
eos = model.generation_config.eos_token_id
torch.save({"ids": ids, "logits": logits, "text": text, "dtype": str(model.dtype), "eos": eos}, out)
"""


def tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    raw.train_from_iterator(
        ["ab ba user assistant"],
        trainers.BpeTrainer(
            special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|endoftext|>", additional_special_tokens=special[1:]
    )
    fast.chat_template = TEMPLATE
    return fast


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def step(tmp_path: Path, request: pytest.FixtureRequest) -> Step:
    torch.manual_seed(0)
    words = tokenizer()
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=request.param,
    )  # fmt: skip
    for name in ("teacher", "cache", "fit"):
        (tmp_path / name).mkdir()
    LlamaForCausalLM(config).save_pretrained(tmp_path / "init" / "model")
    words.save_pretrained(tmp_path / "init" / "model")
    trained = LlamaForCausalLM(config)  # what a fit would have written
    for parameter in trained.parameters():  # norms, too: two models begin with the same ones
        torch.nn.init.normal_(parameter, mean=1.0, std=0.1)
    weights = {name: parameter.detach().contiguous() for name, parameter in trained.named_parameters()}
    save_file(weights, tmp_path / "fit" / "student.safetensors")
    files = {
        "teacher/teacher.json": {"name": "Big", "model": "model", "local": True, "revision": None, "licence": "MIT"},
        "cache/manifest.json": {
            "counts": {"records": 12, "train": 10, "heldout": 2},
            "decoding": {"temperature": 0.0},
            "licences": {"prompts": "CC0-1.0"},
        },
        "init/init.json": {"name": "small-2l", "source": "teacher", "layers": [0, 3], "licence": "Apache-2.0"},
        "fit/summary.json": {"steps": 7, "wall_s": 12.5},
        "fit/step.json": {"settings": {"seed": 5, "losses": {"cwce": {"a": 0.3}}}},
    }
    for path, content in files.items():
        (tmp_path / path).write_text(json.dumps(content))
    return Step(
        label="release",
        stage="release",
        settings=Settings(
            dtype="bfloat16",
            name="dante-tiny",
            experiment=Experiment(name="x", title="Tiny", hypothesis="It loads.", source="none"),
        ),
        resources={},
        inputs={name: tmp_path / name for name in ("teacher", "cache", "init", "fit")},
        out=tmp_path / "release.partial",
        fingerprint="abc123",
        seed=1,
    )


def test_a_process_with_only_transformers_gets_the_trained_logits(step: Step, tmp_path: Path) -> None:
    release.run(step)
    subprocess.run([sys.executable, "-c", STRANGER, str(step.out), str(tmp_path / "out.pt")], check=True, cwd=tmp_path)
    theirs = torch.load(tmp_path / "out.pt", weights_only=True)

    config = LlamaConfig.from_pretrained(step.inputs["init"] / "model")
    trained = LlamaForCausalLM(config)
    trained.load_state_dict(load_file(step.inputs["fit"] / "student.safetensors"), strict=False)
    for parameter in trained.parameters():  # not trained.to(bfloat16): that would round the rotary frequencies too
        parameter.data = parameter.data.bfloat16()
    assert theirs["dtype"] == "torch.bfloat16"
    assert torch.equal(theirs["logits"], trained(input_ids=theirs["ids"]).logits)
    assert theirs["eos"][0] == tokenizer().convert_tokens_to_ids("<|im_end|>")
    assert theirs["text"].startswith("<|im_start|>user\nab ba<|im_end|>\n<|im_start|>assistant\n")


def test_every_parameter_of_the_export_is_the_trained_one(step: Step) -> None:
    release.run(step)
    trained = load_file(step.inputs["fit"] / "student.safetensors")
    started = load_file(step.inputs["init"] / "model" / "model.safetensors")
    exported = load_file(step.out / "model.safetensors")
    assert exported.keys() == trained.keys() == started.keys()
    for name, tensor in trained.items():
        assert torch.equal(exported[name], tensor.bfloat16()), name
        assert not torch.equal(exported[name], started[name].bfloat16()), f"{name} does not tell the two apart"


def test_folder_holds_what_a_user_of_the_model_expects(step: Step) -> None:
    release.run(step)
    names = {path.name for path in step.out.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
    } <= names
    stored = load_file(step.out / "model.safetensors")
    tied = json.loads((step.out / "config.json").read_text())["tie_word_embeddings"]
    assert ("lm_head.weight" in stored) == (not tied)


def test_card_has_front_matter_recipe_compute_and_licences(step: Step) -> None:
    release.run(step)
    card = (step.out / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "apache-2.0"
    assert front["model-index"] == [{"name": "dante-tiny", "results": []}]
    for expected in (
        "`losses.cwce.a` | 0.3 |",
        "`seed` | 5 |",
        "It loads.",
        "wall s | 12.5 |",
        "`Big`: MIT",
        "CC0-1.0",
        "fingerprint | `abc123`",
    ):
        assert expected in card


def test_provenance_names_the_seed_of_the_fit(step: Step) -> None:
    release.run(step)
    provenance = json.loads((step.out / "release.json").read_text())
    assert provenance == {"name": "dante-tiny", "fingerprint": "abc123", "seed": 5}


def test_leftovers_of_an_interrupted_attempt_do_not_survive(step: Step) -> None:
    step.out.mkdir()
    (step.out / "model-00001-of-00002.safetensors").write_bytes(b"half")
    release.run(step)
    assert not (step.out / "model-00001-of-00002.safetensors").exists()


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_weights_that_do_not_fit_are_refused(step: Step, change: str) -> None:
    file = step.inputs["fit"] / "student.safetensors"
    weights = load_file(file)
    if change == "missing":
        del weights["model.norm.weight"]
    elif change == "unexpected":
        weights["model.layers.9.mlp.up_proj.weight"] = torch.zeros(1)
    else:
        weights["model.norm.weight"] = torch.zeros(3)
    save_file(weights, file)
    with pytest.raises(DanteError, match="do not fit"):
        release.run(step)


def test_unknown_dtype_is_refused(step: Step) -> None:
    step = Step(**{**vars(step), "settings": step.settings.model_copy(update={"dtype": "int3"})})
    with pytest.raises(DanteError, match="int3"):
        release.run(step)
