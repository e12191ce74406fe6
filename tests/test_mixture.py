"""The mixture made of a dense teacher, its calibration, and a whole run that makes it dense again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from dante.cache import CacheWriter, Record
from dante.densify.calibration import stage
from dante.densify.calibration.store import CalibrationFiles
from dante.densify.mixture.neurons import balanced_clusters, most_active
from dante.densify.mixture.router import fit_router
from dante.densify.mixture.split import SplitExperts
from dante.errors import DanteError
from dante.models.moe.registry import ADAPTERS
from dante.run.config.schema import Calibration
from dante.run.step import Step
from dante.students.dense_form import decoder_layers
from dante.teachers.hub import HubTeacher
from dante.teachers.smoke import SmokeTeacher, smoke_pairs

VALUES: dict[str, Any] = {
    "name": "split",
    "shared": 64,
    "experts": 4,
    "top_k": 2,
    "tokens": 400,
    "max_tokens": 100,
    "ridge": 1e-3,
    "seed": 0,
}


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dense teacher, answers, and the mixture made of both."""
    folder = tmp_path_factory.mktemp("steps")
    inputs = {"dense": folder / "dense", "cache": folder / "cache"}
    SmokeTeacher(seed=0).make(inputs["dense"])
    pairs = smoke_pairs()[:12]
    records = [Record(f"id-{number}", question, answer, 1.0) for number, (question, answer) in enumerate(pairs)]
    CacheWriter(inputs["cache"]).add(records).seal()
    (folder / "teacher").mkdir()
    SplitExperts(**VALUES).make_from(inputs, folder / "teacher")
    return {**inputs, "teacher": folder / "teacher"}


def forward(folder: Path, **changes: Any) -> Tensor:
    config = AutoConfig.from_pretrained(folder)
    for key, value in changes.items():
        setattr(config, key, value)
    model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)
    ids = torch.randint(5, 500, (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


def test_with_all_experts_on_the_mixture_is_the_dense_model(steps: dict[str, Path]) -> None:
    dense = forward(steps["dense"] / "model")
    whole = forward(steps["teacher"] / "model", num_experts_per_tok=4, routed_scaling_factor=4.0)
    routed = forward(steps["teacher"] / "model")
    largest = dense.abs().max()
    assert float((whole - dense).abs().max() / largest) < 1e-4
    assert float((routed - dense).abs().max() / largest) > 1e-3  # the router leaves something out
    assert AutoConfig.from_pretrained(steps["teacher"] / "model").model_type == "glm4_moe"


def test_the_same_seed_makes_the_same_mixture(steps: dict[str, Path], tmp_path: Path) -> None:
    first = (steps["teacher"] / "model" / "model.safetensors").read_bytes()
    for name, change in {"again": {}, "other": {"seed": 1}}.items():
        (tmp_path / name / "model").mkdir(parents=True)  # left by an interrupted attempt
        SplitExperts(**(VALUES | change)).make_from(steps, tmp_path / name)
        assert ((tmp_path / name / "model" / "model.safetensors").read_bytes() == first) == (name == "again")


def test_clusters_have_one_size_and_hold_what_speaks_together() -> None:
    generator = torch.Generator().manual_seed(0)
    topics = torch.rand(300, 4, generator=generator).argmax(1)
    kinds = torch.arange(32) % 4
    activity = (topics[:, None] == kinds).float() + 0.1 * torch.rand(300, 32, generator=generator)
    clusters = balanced_clusters(activity, 4, seed=0)
    assert sorted(map(len, clusters)) == [8] * 4
    assert all(len(set(kinds[cluster].tolist())) == 1 for cluster in clusters)
    shared, others = most_active(activity * torch.where(kinds == 2, 3.0, 1.0), 8)
    assert set(kinds[shared].tolist()) == {2}
    assert sorted([*shared.tolist(), *others.tolist()]) == list(range(32))


def test_loud_neurons_go_together() -> None:
    generator = torch.Generator().manual_seed(0)
    together = torch.rand(200, 1, generator=generator) + 0.01 * torch.rand(200, 8, generator=generator)
    loud = torch.tensor([1.0, 10.0] * 4)
    clusters = balanced_clusters(together * loud, 2, seed=0)
    assert {tuple(cluster.tolist()) for cluster in clusters} == {(0, 2, 4, 6), (1, 3, 5, 7)}


def test_a_router_predicts_a_linear_loudness_and_weighs_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 8, generator=generator) + 1.0
    loudness = inputs @ torch.randn(8, 5, generator=generator) + torch.tensor([0.0, 3.0, 0.0, -2.0, 0.0])
    router = fit_router(inputs, loudness, ridge=1e-6)
    scores = torch.sigmoid(inputs.double() @ router.weight.T)
    chosen = (scores + router.bias).topk(2).indices.sort().values
    assert (chosen == loudness.topk(2).indices.sort().values).all(1).float().mean() > 0.99
    assert float((scores / scores.mean() - 1).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("change", "message", "fix"),
    [
        ({"top_k": 5}, "5 of 4 experts", "teacher.make.top_k=4"),
        ({"shared": 60}, "shared expert of 60", "teacher.make.shared=56"),
        ({"experts": 3}, "128 neurons are not", "teacher.make.shared=64 teacher.make.experts=4"),
        ({"shared": 128}, "128 neurons are not", "teacher.make.shared=64 teacher.make.experts=4"),
    ],
)
def test_a_split_that_does_not_divide_is_refused(
    steps: dict[str, Path], tmp_path: Path, change: dict[str, int], message: str, fix: str
) -> None:
    with pytest.raises(DanteError, match=message) as caught:
        SplitExperts(**(VALUES | change)).make_from(steps, tmp_path)
    assert caught.value.fix == fix


def test_only_a_llama_is_split_and_its_inputs_are_asked_for(steps: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DanteError, match="glm4_moe cannot be split"):
        SplitExperts(**VALUES).make_from(steps | {"dense": steps["teacher"]}, tmp_path)
    with pytest.raises(DanteError, match="no input 'dense'"):
        SplitExperts(**VALUES).make_from({"cache": steps["cache"]}, tmp_path)


def calibration(steps: dict[str, Path], out: Path, **change: Any) -> Step[Calibration]:
    values = {"tokens": 300, "inputs": 64, "max_tokens": 100, "seed": 0, "precision": "fp32"} | change
    settings = Calibration.model_validate(values)
    resources = {"trainer": {"threads": 1, "accelerator": "cpu"}}
    inputs = {"teacher": steps["teacher"], "cache": steps["cache"]}
    return Step("calibration", "calibration", settings, resources, inputs, out, "", seed=0)


def test_calibration_is_what_the_whole_model_does(steps: dict[str, Path], tmp_path: Path) -> None:
    stage.run(calibration(steps, tmp_path))
    files = CalibrationFiles(tmp_path)
    assert files.manifest["tokens"] == 300
    assert files.manifest["sparse_layers"] == [0, 1, 2, 3]
    assert not list(tmp_path.glob("*states*"))
    model = AutoModelForCausalLM.from_pretrained(steps["teacher"] / "model", dtype=torch.float32)
    entered: list[Tensor] = []
    decoder_layers(model)[2].mlp.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0][0]))
    texts = stage.train_texts(steps["cache"], stage.ChatRenderer(_tokenizer(steps)), 300, 100, 0)
    with torch.no_grad():
        for ids in texts.ids:
            model(input_ids=ids[None], use_cache=False)
    x_TD = torch.cat(entered)
    torch.testing.assert_close(files.inputs(2), x_TD[:64], rtol=1e-5, atol=1e-6)
    routing = ADAPTERS["glm4_moe"].block(decoder_layers(model)[2]).route(x_TD)
    assert files.statistics(2).count.tolist() == torch.bincount(routing.experts.flatten(), minlength=4).tolist()


def test_an_interrupted_calibration_goes_on_with_the_layer_it_was_at(
    steps: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.run(calibration(steps, tmp_path / "whole"))
    add, loaded = CalibrationFiles.add, []

    def interrupted(self: CalibrationFiles, layer: int, *parts: Any) -> None:
        if layer == 2:
            raise KeyboardInterrupt
        add(self, layer, *parts)

    monkeypatch.setattr(CalibrationFiles, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage.run(calibration(steps, tmp_path / "parts"))
    monkeypatch.setattr(CalibrationFiles, "add", add)
    load = stage.LayerByLayer.load
    monkeypatch.setattr(stage.LayerByLayer, "load", lambda self, number: loaded.append(number) or load(self, number))
    stage.run(calibration(steps, tmp_path / "parts"))
    assert loaded == [2, 3]
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "parts").iterdir())
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


def test_a_dense_teacher_is_not_calibrated(steps: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DanteError, match="sparse blocks of a llama"):
        stage.run(calibration(steps | {"teacher": steps["dense"]}, tmp_path))
    folder = tmp_path / "without"
    shutil.copytree(steps["teacher"] / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"first_k_dense_replace": 4}))
    HubTeacher(str(folder), None, "MIT").make(tmp_path / "teacher")
    with pytest.raises(DanteError, match="no sparse layer"):
        stage.run(calibration(steps | {"teacher": tmp_path / "teacher"}, tmp_path / "out"))


def test_a_shorter_cache_is_read_whole_and_that_is_told(
    steps: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.run(calibration(steps, tmp_path, tokens=1_000_000))
    assert "all are read" in " ".join(capsys.readouterr().out.split())
    assert len(CalibrationFiles(tmp_path).manifest["records"]) == 12


def test_weights_are_those_of_the_dense_model_in_another_order(steps: dict[str, Path]) -> None:
    dense = load_file(steps["dense"] / "model" / "model.safetensors")["model.layers.1.mlp.up_proj.weight"]
    model = AutoModelForCausalLM.from_pretrained(steps["teacher"] / "model", dtype=torch.float32)
    mlp = decoder_layers(model)[1].mlp
    parts = [mlp.shared_experts.up_proj.weight, *(packed.chunk(2)[1] for packed in mlp.experts.gate_up_proj)]
    ours = torch.cat(parts).detach()
    order = torch.cdist(ours, dense).argmin(1)
    assert sorted(order.tolist()) == list(range(128))
    assert torch.equal(ours, dense[order])


def _tokenizer(steps: dict[str, Path]) -> Any:
    return stage.load_tokenizer(str(steps["teacher"] / "model"), None)
