"""From a mixture's block to a dense unit, against the float64 reference; choices, scalings, fills, a whole student."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from dante.densify.calibration.statistics import ExpertStatistics, Gathering
from dante.densify.calibration.store import CalibrationFiles
from dante.densify.choice import Acp, Choice, Cp, DoAcp, Frequency
from dante.densify.fill import Averaged, Drawn, Fill, Selected, SharedOnly
from dante.densify.init import MoeToDense
from dante.densify.refit import nmse, refit_down
from dante.densify.scaling import scales
from dante.errors import DanteError
from dante.models.moe.adapter import SparseBlock
from dante.models.moe.glu import Glu, concatenate
from dante.models.moe.registry import ADAPTERS
from dante.models.pretrained import Source
from dante.students.dense_form import as_dense, decoder_layers, units
from tests import reference_moe_to_dense as reference
from tests.tiny_mixtures import HIDDEN, KINDS, difference, logits, tiny_mixture

CHOICES: dict[str, Choice] = {"frequency": Frequency(), "cp": Cp(), "acp": Acp(), "do_acp": DoAcp()}


def block_of(kind: str, **changes: Any) -> SparseBlock:
    adapter, model = ADAPTERS[kind], tiny_mixture(kind, **changes).double()
    return adapter.block(decoder_layers(model)[adapter.sparse_layers(model.config)[0]])


def inputs(tokens: int = 120) -> torch.Tensor:
    return torch.randn(tokens, HIDDEN, generator=torch.Generator().manual_seed(5)).double()


def gathered(block: SparseBlock, x_TD: torch.Tensor) -> ExpertStatistics:
    gathering = Gathering(block)
    for part in x_TD.split(37):  # texts of some length
        gathering.add(part)
    return gathering.result()


def as_arrays(unit: Glu) -> reference.Expert:
    return {name: tensor.detach().double().numpy() for name, tensor in unit.tensors.items()}


def referenced(block: SparseBlock, x_TD: torch.Tensor) -> dict[str, np.ndarray]:
    routing = block.route(x_TD)
    outputs = np.stack([block.expert(number)(x_TD).detach().numpy() for number in range(block.experts)])
    return reference.statistics(routing.weights.detach().double().numpy(), routing.experts.numpy(), outputs)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_the_references(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dante.densify.calibration.statistics._CHUNK_ENTRIES", 8 * HIDDEN * 5)  # five tokens at a time
    block = block_of(kind)
    got, want = gathered(block, inputs()), referenced(block, inputs())
    assert got.tokens == 120
    np.testing.assert_array_equal(got.count.numpy(), want["count"])
    for name, value in {"alpha": got.alpha, "cp": got.cp, "acp": got.acp, "gram": got.gram}.items():
        np.testing.assert_allclose(value.numpy(), want[name], rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("kind", ["laguna", "gpt_oss", "glm4_moe"])
@pytest.mark.parametrize("method", CHOICES)
@pytest.mark.parametrize("experts", [1, 3, 6])
def test_choices_are_the_references(kind: str, method: str, experts: int) -> None:
    block = block_of(kind)
    statistics, want = gathered(block, inputs()), referenced(block, inputs())
    assert CHOICES[method].choose(statistics, experts) == reference.select(want, method, experts)


@pytest.mark.parametrize("scaling", ["uniform", "conditional", "normalised", "marginal"])
def test_scales_are_the_references(scaling: Any) -> None:
    block = block_of("olmoe")
    got = scales(scaling, gathered(block, inputs()), [[4], [0], [2]])
    np.testing.assert_allclose(got, reference.scales(referenced(block, inputs()), [4, 0, 2], scaling), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaling", ["uniform", "conditional"])
def test_a_unit_is_the_references(kind: str, scaling: Any) -> None:
    block = block_of(kind)
    statistics, x_TD = gathered(block, inputs()), inputs(20)
    routed = Selected(DoAcp()).routed(block, statistics, scaling)
    stats = referenced(block, inputs())
    chosen = reference.select(stats, "do_acp", block.top_k)
    experts = [as_arrays(block.expert(number)) for number in chosen]
    want = reference.concatenate(experts, reference.scales(stats, chosen, scaling), block.scaling)
    gpt_oss = {"kind": "gpt_oss"} if kind == "gpt_oss" else {}
    np.testing.assert_allclose(
        routed(x_TD).detach().numpy(), reference.glu(x_TD.numpy(), **want, **gpt_oss), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("kind", ["laguna", "gpt_oss"])
@pytest.mark.parametrize("groups", [1, 2, 4])  # 4 does not divide 5
def test_merged_experts_are_the_references(kind: str, groups: int) -> None:
    block = block_of(kind)
    statistics, x_TD = gathered(block, inputs()), inputs(20)
    routed = Selected(DoAcp(), experts=5, groups=groups).routed(block, statistics, "uniform")
    stats = referenced(block, inputs())
    experts = [as_arrays(block.expert(number)) for number in range(block.experts)]
    merged = reference.merge(experts, reference.select(stats, "do_acp", 5), stats["acp"], groups)
    want = reference.concatenate(merged, np.full(groups, 1 / groups), block.scaling)
    assert routed.size == groups * 16
    gpt_oss = {"kind": "gpt_oss"} if kind == "gpt_oss" else {}
    np.testing.assert_allclose(
        routed(x_TD).detach().numpy(), reference.glu(x_TD.numpy(), **want, **gpt_oss), rtol=1e-5, atol=1e-7
    )


def test_a_refit_is_the_references_and_better() -> None:
    block, x_TD = block_of("gpt_oss"), inputs(200)
    unit = Selected(Acp()).routed(block, gathered(block, x_TD), "uniform")
    outputs = block(x_TD)
    refitted = refit_down(unit, x_TD, outputs, ridge=1e-3)
    hidden = unit.hidden(x_TD).detach().numpy()
    penalty = 1e-3 * float(np.mean(np.sum(hidden**2, axis=0)))
    assert unit.down_bias is not None
    want = reference.ridge_down(hidden, (outputs - unit.down_bias).detach().numpy(), penalty)
    np.testing.assert_allclose(refitted.down.detach().numpy(), want, rtol=1e-6, atol=1e-9)
    before, after = nmse(unit, x_TD, outputs), nmse(refitted, x_TD, outputs)
    assert after < 0.8 * before
    prediction = refitted(x_TD).detach().numpy()
    assert after == pytest.approx(reference.nmse(prediction, outputs.numpy(), np.ones(200), 0.0), rel=1e-9)


def test_dead_experts_are_chosen_last_and_count_as_nothing() -> None:
    gram = torch.eye(4, dtype=torch.float64)
    some = ExpertStatistics(10, torch.tensor([0, 5, 0, 5]), torch.tensor([0.0, 1.0, 0.0, 4.0]).double(), gram)
    for choice in CHOICES.values():
        assert set(choice.choose(some, 2)) == {1, 3}
        assert sorted(choice.choose(some, 4)) == [0, 1, 2, 3]
    none = ExpertStatistics(10, torch.zeros(4, dtype=torch.int64), torch.zeros(4).double(), gram)
    for choice in CHOICES.values():
        assert choice.choose(none, 2) == [0, 1]
    for scaling in ("conditional", "normalised", "marginal"):
        assert all(np.isfinite(scales(scaling, none, [[0], [1]])))


@pytest.mark.parametrize(
    ("fill", "key", "fix"),
    [
        (Selected(Acp(), experts=7), "experts", "student.init.fill.experts=6"),
        (Selected(Acp(), experts=0), "experts", "student.init.fill.experts=1"),
        (Selected(Acp(), experts=4, groups=5), "groups", "student.init.fill.groups=null"),
        (Averaged(experts=9), "experts", "student.init.fill.experts=6"),
    ],
)
def test_more_experts_than_there_are_is_refused(fill: Fill, key: str, fix: str) -> None:
    with pytest.raises(DanteError) as caught:
        fill.width(experts=6, top_k=3)
    assert caught.value.where == f"student.init.fill.{key}"
    assert caught.value.fix == fix


def test_a_shared_expert_alone_needs_one() -> None:
    with pytest.raises(DanteError, match="no shared expert"):
        SharedOnly(seed=0).routed(block_of("olmoe"), None, "uniform")


def test_a_penalty_is_positive() -> None:
    with pytest.raises(DanteError, match="no penalty"):
        MoeToDense(Averaged(), "uniform", ridge=0.0)


def student_of(kind: str, tmp_path: Path, fill: Fill, ridge: float | None = None, calibrated: bool = True) -> Any:
    """The dense student of a tiny mixture, its folder written and read again by stock classes, and its init."""
    teacher, adapter = tiny_mixture(kind), ADAPTERS[kind]
    teacher.save_pretrained(tmp_path / "teacher")
    (tmp_path / "calibration").mkdir()
    files = CalibrationFiles(tmp_path / "calibration")
    for number in adapter.sparse_layers(teacher.config):
        block = adapter.block(decoder_layers(teacher)[number])
        x_TD = inputs().float()
        files.add(number, gathered(block, x_TD), x_TD[:50])
    init = MoeToDense(fill, "uniform", ridge)
    model = init.load(Source(tmp_path / "teacher", "student.source"), torch.float32)
    assert all(parameter.is_meta for parameter in model.parameters())
    student = init.begin(model, {"calibration": tmp_path / "calibration"} if calibrated else {})
    student.save_pretrained(tmp_path / "student")
    return teacher, AutoModelForCausalLM.from_pretrained(tmp_path / "student"), init


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_student_is_the_teacher_with_units_in_place_of_blocks(kind: str, tmp_path: Path) -> None:
    teacher, student, init = student_of(kind, tmp_path, Selected(DoAcp()))
    adapter = ADAPTERS[kind]
    got = logits(student)
    for number in adapter.sparse_layers(teacher.config):
        layer = decoder_layers(teacher)[number]
        block = adapter.block(layer)
        unit = Selected(DoAcp()).routed(block, gathered(block, inputs().float()), "uniform")
        shared = [] if block.shared is None else [block.shared]
        adapter.install(layer, concatenate([*shared, unit]))
    assert difference(got, logits(teacher)) < 1e-5
    assert sorted(map(int, init.described()["nmse"])) == adapter.sparse_layers(student.config)
    assert len(init.described()["chosen"]) == len(adapter.sparse_layers(student.config))


def test_a_student_that_needs_no_statistics_is_made_without(tmp_path: Path) -> None:
    _, student, init = student_of("laguna", tmp_path, Averaged(), calibrated=False)
    assert {unit.unit.size for unit in units(as_dense(student)).values()} == {16 + 3 * 16}
    assert "nmse" not in init.described()


def test_statistics_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DanteError, match="no calibration") as caught:
        student_of("laguna", tmp_path, Selected(Acp()), calibrated=False)
    assert "init=average" in str(caught.value.fix)


def test_only_the_shared_expert_speaks_and_the_rest_can_learn(tmp_path: Path) -> None:
    teacher, student, _ = student_of("laguna", tmp_path, SharedOnly(seed=0))
    block = ADAPTERS["laguna"].block(decoder_layers(teacher)[1])
    unit = units(as_dense(student))[1]
    x_TD = inputs().float()
    assert block.shared is not None
    assert difference(unit(x_TD), block.shared(x_TD)) < 1e-6
    unit(x_TD).square().sum().backward()
    assert float(unit.down_proj.weight.grad[:, 16:].abs().min()) > 0  # type: ignore[index,union-attr]


def test_draws_depend_on_the_seed_alone() -> None:
    block = block_of("laguna")
    first, again, other = (Drawn(seed=seed).routed(block, None, "uniform") for seed in (0, 0, 1))
    assert torch.equal(first.gate, again.gate)
    assert not torch.equal(first.gate, other.gate)
    assert first.size == 16 + 3 * 16
    shared = block.shared
    assert shared is not None
    assert not torch.equal(first.rows(0, 16).gate, shared.gate)
