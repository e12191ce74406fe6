"""Layer matching: losses of blocks, the pass that runs units alone, and what a fit of them leaves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dante.data.batch import StepBatch, assemble
from dante.data.table import RECORD_FIELDS
from dante.errors import DanteError
from dante.fit.keep.weights import gather
from dante.fit.module import DistillModule
from dante.losses.base import BlockLoss
from dante.losses.blocks.early_stop import EarlyStop
from dante.losses.blocks.nmse import NormalisedError
from dante.losses.blocks.radlads import Distance
from dante.losses.ce import CE
from dante.losses.schedule import Constant
from dante.models.moe.glu import concatenate
from dante.models.moe.registry import ADAPTERS
from dante.students.dense_form import decoder_layers, units
from dante.students.units import UnitsAlone
from dante.supervision.blocks import BlocksBeside
from tests import fit_settings
from tests import reference_moe_to_dense as reference
from tests.test_module import FIT, SOUND
from tests.tiny_mixtures import KINDS, tiny_mixture

LOSSES = {"nmse": NormalisedError, "radlads": Distance}


def student_of(kind: str) -> Any:
    """A dense student whose units are the first experts of each block."""
    model, adapter = tiny_mixture(kind), ADAPTERS[kind]
    for number in adapter.sparse_layers(model.config):
        block = adapter.block(decoder_layers(model)[number])
        chosen = [block.expert(expert).scaled(block.scaling / 2) for expert in range(2)]
        unit = concatenate([part for part in (block.shared, *chosen) if part is not None])
        adapter.install(decoder_layers(model)[number], unit)
    return model


def energies(kind: str) -> dict[int, float]:
    layers = ADAPTERS[kind].sparse_layers(tiny_mixture(kind).config)
    return {layer: 2.0 + layer for layer in layers}


def record(name: str, length: int, seed: int) -> dict[str, Any]:
    ids = torch.randint(3, 64, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    supervised = [index > length // 2 for index in range(length)]
    numbers = dict.fromkeys(RECORD_FIELDS, 0.0) | {"supervised_tokens": sum(supervised), "answer_bytes": 9}
    return {"id": name, "input_ids": ids, "supervised": supervised, **numbers}


RECORDS = [record("a", 9, 0), record("b", 14, 1), record("c", 5, 2)]
TOKENS = sum(len(row["input_ids"]) for row in RECORDS)


def batch_of(rows: list[list[dict[str, Any]]]) -> StepBatch:
    micro_batches = [assemble(row) for row in rows]
    supervised = sum(len(micro.positions) for micro in micro_batches)
    return StepBatch(micro_batches, TOKENS, supervised, len(RECORDS), step=0)


def module_of(kind: str, losses: dict[str, Any], student: Any = None) -> DistillModule:
    teacher = BlocksBeside(tiny_mixture(kind), energies(kind))
    return DistillModule(
        student=student_of(kind) if student is None else student,
        losses=losses,
        fit=fit_settings.fit(**FIT),
        fidelity=fit_settings.fidelity(**SOUND),
        precision="fp32",
        seed=0,
        gradient_sync="last",
        blocks=teacher,
    )


def gradients(kind: str, loss: BlockLoss, rows: list[list[dict[str, Any]]]) -> tuple[dict[str, Tensor], Any]:
    module = module_of(kind, {"match": loss})
    sums, _, _ = module._token_gradients(batch_of(rows), progress=0.0)
    grads = {name: parameter.grad.clone() for name, parameter in module.student.named_parameters()}  # type: ignore[union-attr]
    return grads, module._logged(sums, 0.0)


@torch.no_grad()
def seen(kind: str) -> dict[int, tuple[Tensor, Tensor]]:
    """What enters and leaves each block of the teacher, text by text, through the stock model."""
    model, adapter = tiny_mixture(kind), ADAPTERS[kind]
    entered: dict[int, list[Tensor]] = {}
    for number in adapter.sparse_layers(model.config):
        part = adapter.parts(decoder_layers(model)[number])[0]
        part.register_forward_pre_hook(lambda _, inputs, n=number: entered.setdefault(n, []).append(inputs[0][0]))
    for row in RECORDS:
        model(input_ids=torch.tensor(row["input_ids"])[None], use_cache=False)
    blocks = {number: adapter.block(decoder_layers(tiny_mixture(kind))[number]) for number in entered}
    return {number: (torch.cat(texts), blocks[number](torch.cat(texts))) for number, texts in entered.items()}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_references_on_the_teachers_own_states(kind: str, name: str) -> None:
    loss = LOSSES[name](Constant(0.5))
    # gpt-oss has no attention of packed rows here: as a live teacher it is refused when it is loaded.
    rows = [[row] for row in RECORDS] if kind == "gpt_oss" else [RECORDS]
    _, logged = gradients(kind, loss, rows)
    want, exact = [], []
    for layer, (x_TD, y_TD) in seen(kind).items():
        prediction = units(student_of(kind))[layer].unit(x_TD).double().numpy()
        target, mask = y_TD.double().numpy(), np.ones(TOKENS)
        if name == "nmse":  # in training over the calibration's mean
            per_token = ((prediction - target) ** 2).sum(1) / energies(kind)[layer]
            want.append(per_token.mean())
        else:
            want.append(reference.radlads(prediction, target, mask))
        exact.append(reference.nmse(prediction, target, mask, 0.0))
    assert float(logged["loss/match"]) == pytest.approx(np.mean(want), rel=1e-4)
    assert float(logged["loss"]) == pytest.approx(0.5 * np.mean(want), rel=1e-4)
    assert float(logged["match/nmse"]) == pytest.approx(np.mean(exact), rel=1e-4)
    layers = [float(logged[f"match/layer-{layer:03d}"]) for layer in energies(kind)]
    assert layers == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_values(name: str) -> None:
    """Finite differences, of one unit's entry at a time: no other unit's loss moves with it."""
    kind, loss = "laguna", LOSSES[name](Constant(1.0))
    grads, _ = gradients(kind, loss, [RECORDS])
    for parameter_name in ("model.layers.1.mlp.gate_proj.weight", "model.layers.2.mlp.down_proj.weight"):
        values = []
        for sign in (-1, 1):
            student = student_of(kind)
            with torch.no_grad():
                student.get_parameter(parameter_name)[3, 2] += sign * 1e-2
            module = module_of(kind, {"match": LOSSES[name](Constant(1.0))}, student)
            sums, _, _ = module._token_gradients(batch_of([RECORDS]), progress=0.0)
            values.append(float(sums["loss"]))
        assert (values[1] - values[0]) / 2e-2 == pytest.approx(float(grads[parameter_name][3, 2]), rel=2e-2, abs=2e-5)


def test_rows_and_empty_rows_do_not_matter() -> None:
    loss = NormalisedError(Constant(1.0))
    whole, logged = gradients("laguna", loss, [RECORDS])
    parts, again = gradients("laguna", NormalisedError(Constant(1.0)), [RECORDS[:1], RECORDS[1:], []])
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-5)
    assert float(again["match/nmse"]) == pytest.approx(float(logged["match/nmse"]), rel=1e-5)


def test_a_unit_that_is_right_has_no_error_and_a_finite_gradient() -> None:
    for loss in (NormalisedError(Constant(1.0)), Distance(Constant(1.0))):
        loss.attach(torch.ones(1))
        ours = torch.ones(3, 4, requires_grad=True)
        loss.per_token(ours, torch.ones(3, 4), 0).sum().backward()
        assert ours.grad is not None
        assert torch.isfinite(ours.grad).all()
        assert float(ours.grad.abs().max()) == 0.0


def test_units_have_the_names_of_the_whole_student_and_leave_the_rest_alone() -> None:
    student = student_of("granitemoeshared")
    alone = UnitsAlone(student)
    names = {name for name, _ in alone.named_parameters()}
    assert names < {name for name, _ in student.named_parameters()}
    assert alone.layers == (0, 1, 2)
    trained = {name: torch.full_like(parameter, 7.0) for name, parameter in alone.named_parameters()}
    whole = gather(student_of("granitemoeshared"), keep=True) | trained
    assert whole.keys() == dict(student.named_parameters()).keys()
    for name, tensor in whole.items():
        assert bool((tensor == 7.0).all()) == (name in names)


def test_losses_of_two_kinds_are_refused() -> None:
    losses = {"nmse": NormalisedError(Constant(1.0)), "ce": CE(Constant(1.0))}
    with pytest.raises(DanteError, match="need the whole student") as caught:
        module_of("laguna", losses)
    assert "~losses.ce" in str(caught.value.fix)


def test_a_student_without_units_is_refused() -> None:
    with pytest.raises(DanteError, match="no units"):
        module_of("laguna", {"nmse": NormalisedError(Constant(1.0))}, tiny_mixture("laguna"))


def test_the_teacher_is_frozen_and_no_part_of_what_is_saved(tmp_path: Path) -> None:
    module = module_of("laguna", {"nmse": NormalisedError(Constant(1.0))})
    assert module.blocks is not None
    assert not any(parameter.requires_grad for parameter in module.blocks.network.parameters())  # type: ignore[attr-defined]
    assert all(name.startswith("network.student.model.layers") for name, _ in module.named_parameters())
    assert not module.blocks.network.training  # type: ignore[attr-defined]


def test_a_layer_that_learns_no_more_stops_and_stays_as_it_is() -> None:
    """One of two layers is right from the start; it stops, costs nothing, and the other goes on."""
    stop = EarlyStop(patience=2, least=0.01)
    stop.begin(2)
    for error in (1.0, 0.5, 0.2, 0.1, 0.05):
        stop.see(torch.tensor([error, 0.3]).double(), torch.tensor(True))
    assert stop.stopped.tolist() == [False, True]
    stop.see(torch.tensor([0.04, 99.0]).double(), torch.tensor(True))
    assert float(stop.mean[1]) == pytest.approx(0.3)
    before = stop.mean.clone()
    stop.see(torch.tensor([torch.nan, 0.0]).double(), torch.tensor(False))
    assert torch.equal(stop.mean, before)


def test_a_stopped_layer_has_no_gradient_and_its_last_error() -> None:
    loss = NormalisedError(Constant(1.0), stop=EarlyStop(patience=1))
    module = module_of("laguna", {"match": loss})
    assert loss.stop is not None
    loss.stop.stopped[0], loss.stop.mean[0] = True, 0.25
    sums, _, _ = module._token_gradients(batch_of([RECORDS]), progress=0.0)
    logged = module._logged(sums, 0.0)
    assert float(logged["match/layer-001"]) == pytest.approx(0.25)
    assert module.student.unit(1).gate_proj.weight.grad is None
    assert module.student.unit(2).gate_proj.weight.grad is not None
    loss.stop.stopped[:] = True
    module._token_gradients(batch_of([RECORDS]), progress=0.0)  # nothing is left, and nothing breaks
