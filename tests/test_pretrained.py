"""Loading weights: what is missing, misnamed, misshapen, damaged or of another format is said, never made up."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from dante import console
from dante.errors import DanteError
from dante.models import pretrained
from dante.models.folder import check_folder, local_folder, refuse_quantised
from dante.models.pretrained import Source, check_config, load_causal_lm, why_not_here
from dante.students.init.keep_layers import KeepLayers
from dante.students.load import load_pretrained, load_student, meta_of

torch.set_num_threads(1)
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
UP = "model.layers.2.mlp.up_proj.weight"
Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    for tied in (True, False):
        torch.manual_seed(0)
        config = AutoConfig.for_model("llama", **SHAPE, tie_word_embeddings=tied)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / ("tied" if tied else "untied"))
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved / "tied", tmp_path / "model"))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(console, "note", lines.append)
    return lines


def rewrite(folder: Path, change: Change) -> None:
    file = folder / "model.safetensors"
    save_file({name: t.clone() for name, t in change(load_file(file)).items()}, file, metadata={"format": "pt"})


def configure(folder: Path, **change: Any) -> None:
    config = {**json.loads((folder / "config.json").read_text()), **change}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def equal(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize(
    "load", [load_student, lambda f: load_causal_lm(Source(f, "teacher.make.model"), torch.float32)]
)
@pytest.mark.parametrize(
    "name", [UP, "model.norm.weight", "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight"]
)
def test_a_missing_tensor_is_named_by_students_and_teachers_alike(folder: Path, load: Any, name: str) -> None:
    rewrite(folder, lambda tensors: {n: t for n, t in tensors.items() if n != name})
    with pytest.raises(DanteError, match=rf"missing \([^)]*{name}"):
        load(folder)


def test_a_head_of_its_own_may_not_be_missing_and_a_tied_one_may(saved: Path, tmp_path: Path) -> None:
    load_student(saved / "tied")
    folder = Path(shutil.copytree(saved / "untied", tmp_path / "model"))
    rewrite(folder, lambda tensors: {n: t for n, t in tensors.items() if n != "lm_head.weight"})
    with pytest.raises(DanteError, match=r"1 tensors are missing \(lm_head\.weight\)"):
        load_student(folder)


def test_another_shape_is_named_with_both(folder: Path) -> None:
    rewrite(folder, lambda tensors: {**tensors, UP: torch.ones(48, 31)})
    with pytest.raises(DanteError, match=rf"{UP} is \[48, 31\], not \[48, 32\]"):
        load_student(folder)


def test_what_nothing_reads_is_told_and_the_rest_is_loaded(saved: Path, folder: Path, said: list[str]) -> None:
    rewrite(folder, lambda tensors: {**tensors, "mtp.norm.weight": torch.ones(32)})
    assert equal(load_student(folder), load_student(saved / "tied"))
    assert len(said) == 1
    assert "mtp.norm.weight" in said[0]


def test_another_part_s_tensor_is_no_substitute_for_a_missing_one(folder: Path) -> None:
    """A draft head's norm under a prefix: taking it for the final norm would be worse than a random one."""
    rewrite(folder, lambda t: {("mtp." + n if n == "model.norm.weight" else n): x for n, x in t.items()})
    with pytest.raises(DanteError, match=r"missing \(model\.norm\.weight\).*mtp\.model\.norm\.weight"):
        load_student(folder)


def one_layer_compiled(name: str) -> str:
    return name.replace("layers.1.", "layers.1._orig_mod.")


@pytest.mark.parametrize("kind", ["tied", "untied"])
@pytest.mark.parametrize(
    "rename",
    [
        lambda n: f"_orig_mod.{n}",
        lambda n: f"module.{n}",
        lambda n: f"module._orig_mod.{n}",
        lambda n: f"base_model.model.{n}",
        lambda n: f"_orig_mod.base_model.model.{n}",
        lambda n: f"_forward_module.{n}",
        lambda n: f"network.student.{n}",
        one_layer_compiled,
        lambda n: n.replace(".mlp.", "._fsdp_wrapped_module._checkpoint_wrapped_module.mlp."),
    ],
)
def test_a_wrapper_s_names_are_recognised_told_and_not_saved_again(
    saved: Path, tmp_path: Path, said: list[str], kind: str, rename: Callable[[str], str]
) -> None:
    folder = Path(shutil.copytree(saved / kind, tmp_path / "model"))
    rewrite(folder, lambda tensors: {rename(name): tensor for name, tensor in tensors.items()})
    model = load_pretrained(folder, torch.float32)
    assert equal(model, load_pretrained(saved / kind, torch.float32))
    assert len(said) == 1
    assert "stripped" in said[0]
    model.save_pretrained(tmp_path / "again")
    assert (
        load_file(tmp_path / "again" / "model.safetensors").keys()
        == load_file(saved / kind / "model.safetensors").keys()
    )


def test_a_wrapper_s_names_do_not_hide_a_missing_tensor(folder: Path, said: list[str]) -> None:
    rewrite(folder, lambda tensors: {f"_orig_mod.{n}": t for n, t in tensors.items() if n != UP})
    with pytest.raises(DanteError, match=rf"1 tensors are missing \({UP}\)"):
        load_student(folder)


@pytest.mark.parametrize("wrappers", [("student", "teacher"), ("_orig_mod", "module")])
def test_two_models_in_one_file_are_not_guessed_between(folder: Path, wrappers: tuple[str, str]) -> None:
    rewrite(folder, lambda tensors: {f"{who}.{n}": t for who in wrappers for n, t in tensors.items()})
    with pytest.raises(DanteError, match=rf"missing.*{wrappers[0]}\."):
        load_student(folder)


def test_an_adapter_inside_the_weights_is_not_dropped(folder: Path) -> None:
    def with_lora(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        wrapped = {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}
        return wrapped | {"base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight": torch.ones(2, 32)}

    rewrite(folder, with_lora)
    with pytest.raises(DanteError, match="merge_and_unload"):
        load_student(folder)


def test_a_head_that_the_config_says_is_tied_is_told_and_counted(folder: Path, said: list[str]) -> None:
    rewrite(folder, lambda tensors: {**tensors, "lm_head.weight": torch.ones(64, 32)})
    model = load_student(folder)
    assert torch.equal(model.lm_head.weight, torch.ones(64, 32))
    assert model.config.tie_word_embeddings is False, "the plan's count and the saved config would be false"
    assert any("head of its own" in line for line in said)


def test_a_bar_over_a_gguf_file_becomes_one_line_in_a_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from tqdm.auto import tqdm

    from dante.models.pretrained import _one_bar

    with _one_bar("x.gguf"):
        list(tqdm(range(50), mininterval=0))
    out, err = capfd.readouterr()
    assert (out.count("x.gguf"), err) == (1, "")
    with _one_bar(None):
        list(tqdm(range(3), mininterval=0))
    assert "3/3" in capfd.readouterr().err, "only that bar is held back"


# --- folders ---------------------------------------------------------------------------------------------------------


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def shard(folder: Path, index: str) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    if index:
        (folder / "model.safetensors.index.json").write_text(index)


INDEX = json.dumps({"weight_map": {UP: "model-00002-of-00002.safetensors", "x": "model-00001-of-00002.safetensors"}})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: shutil.rmtree(f), "does not exist"),
        (lambda f: [p.unlink() for p in f.iterdir()], "it is empty"),
        (lambda f: (f / "config.json").unlink(), r"has no config\.json; it holds generation_config\.json"),
        (lambda f: (f / "config.json").write_text("{bro"), r"config\.json' is no JSON"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), r"config\.json' is no JSON"),
        (lambda f: (f / "config.json").write_text("[1]"), "no JSON object"),
        (cut, r"model\.safetensors' is cut off"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "is cut off.*0 bytes"),
        (
            lambda f: (f / "model.safetensors").write_text(
                "version https://git-lfs.github.com/spec/v1\noid sha256:a\n"
            ),
            "Git LFS pointer.*lfs pull",
        ),
        (lambda f: shard(f, ""), r"neither model\.safetensors nor model\.safetensors\.index\.json"),
        (lambda f: shard(f, INDEX), "names model-00002-of-00002.safetensors, which the folder does not hold"),
        (lambda f: shard(f, "{bro"), r"index\.json' is no JSON"),
        (lambda f: (f / "model.safetensors").rename(f / "a.gguf"), r"has no weights but a\.gguf"),
        (lambda f: configure(f, model_type="llama9"), "knows no model_type 'llama9'.*did you mean llama"),
        (lambda f: configure(f, model_type=None), "names no model_type"),
        (lambda f: configure(f, model_type="t5"), "a t5 is no causal language model"),
        (lambda f: configure(f, model_type="own", auto_map={"AutoConfig": "a.B"}), "code that comes with it"),
        (lambda f: configure(f, hidden_size="many"), "config of .* cannot be read.*hidden_size"),
        (lambda f: configure(f, num_attention_heads=5), "config of .* cannot be read"),
    ],
)
def test_a_folder_that_is_no_model_is_one_paragraph(folder: Path, damage: Any, words: str) -> None:
    damage(folder)
    with pytest.raises(DanteError, match=words) as caught:
        load_student(folder)
    assert caught.value.where == "student.source"


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors", "foo"])
def test_quantised_weights_are_no_student_and_the_fix_names_the_model_behind_them(folder: Path, method: str) -> None:
    configure(folder, quantization_config={"quant_method": method, "bits": 4})
    config = check_folder(folder, "student.source")
    with pytest.raises(DanteError, match=rf"quantised \({method}\)"):
        refuse_quantised(folder, config, "student.source")
    (folder / "README.md").write_text("---\nbase_model:\n- org/whole\n---\n# x\n")
    with pytest.raises(DanteError, match=r"Fix: student\.source=org/whole"):
        refuse_quantised(folder, config, "student.source")
    assert "quantised" in str(why_not_here(folder)), "the same folder as a teacher is not measured, and says why"


def test_an_adapter_is_refused_with_the_command_that_merges_it(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "org/base", "peft_type": "LORA"})
    )
    for config in (True, False):
        if not config:
            (folder / "config.json").unlink()
        with pytest.raises(DanteError, match=r"adapter \(LoRA\) to 'org/base'.*merge_and_unload.*-merged"):
            check_config(Source(folder, "student.source"))


def test_the_command_that_converts_pickles_works_as_it_is_printed(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "tied", tmp_path / "it's [a] folder"))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    halves = list(tensors.items())
    torch.save(dict(halves[::2]), folder / "pytorch_model-00001-of-00002.bin")
    # A view into a larger matrix, and a tied head: what safetensors refuses to write as it is.
    odd = dict(halves[1::2]) | {"lm_head.weight": tensors["model.embed_tokens.weight"].T.contiguous().T}
    torch.save(odd, folder / "pytorch_model-00002-of-00002.bin")
    with pytest.raises(DanteError, match="a pickle") as caught:
        load_student(folder)
    command = shlex.split(caught.value.fix.removeprefix("convert it: "))
    assert command[0] == "python"
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert equal(load_student(folder), load_student(saved / "tied"))


def test_a_folder_is_local_whatever_its_name_looks_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_folder("org/name") == Path("org/name")
    assert local_folder("org/other") is None
    assert local_folder("~/org/name") == tmp_path / "org" / "name"
    assert local_folder("./nothing") == Path("nothing")


def test_a_home_relative_folder_loads(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(saved))
    assert equal(load_student("~/tied"), load_student(saved / "tied"))
    assert meta_of("~/tied", KeepLayers([0, 2])).config.num_hidden_layers == 2


def test_memory_that_runs_out_is_not_blamed_on_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(pretrained.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(torch.OutOfMemoryError):
        load_student(folder)
