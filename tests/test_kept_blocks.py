"""Blocks kept in files: the same as a teacher beside the student, resumable, and of nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dante.data.batch import assemble
from dante.errors import DanteError
from dante.fit import blocks_stage
from dante.fit.blocks_stage import run
from dante.fit.module import DistillModule
from dante.losses.blocks.nmse import NormalisedError
from dante.losses.schedule import Constant
from dante.models.moe.registry import ADAPTERS
from dante.run.stages import STAGES
from dante.run.step import Step
from dante.supervision.blocks import BlocksBeside
from dante.supervision.kept.files import KeptBlocks, kept_bytes
from dante.supervision.kept.source import BlocksInFiles
from tests import fit_settings
from tests.test_block_pass import RECORDS, TOKENS, batch_of, energies, student_of
from tests.test_config import composed
from tests.test_module import FIT, SOUND
from tests.test_run import run_here
from tests.tiny_mixtures import KINDS, tiny_mixture

KEPT = ("+experiment=laguna_dense", "scale=smoke", "recipe=laguna_dense_kept")
OTHERS = [kind for kind in KINDS if kind != "gpt_oss"]  # it has no attention of packed rows here


def beside(kind: str) -> BlocksBeside:
    return BlocksBeside(tiny_mixture(kind).bfloat16(), energies(kind))


def kept(kind: str, folder: Path, rows: list[list[dict[str, Any]]]) -> BlocksInFiles:
    """Rows that the teacher has read before, in bf16 as they are stored."""
    files, layers = KeptBlocks(folder), sorted(energies(kind))
    teacher = beside(kind)
    for number, row in enumerate(rows):
        micro = assemble(row)
        seen = teacher.blocks(micro, micro.record_ids)
        records = list(zip(micro.record_ids, micro.document_tokens, strict=True))
        files.add(number, records, micro.input_ids[0], [seen.of(layer) for layer in layers])
    files.seal({"sparse_layers": layers, "width": teacher.width, "rendering": "r"})
    return BlocksInFiles(files, energies(kind))


@pytest.mark.parametrize("kind", OTHERS)
def test_files_say_to_the_bit_what_the_teacher_said(kind: str, tmp_path: Path) -> None:
    rows = [RECORDS[:2], RECORDS[2:]]
    files, teacher = kept(kind, tmp_path, rows), beside(kind)
    for row in rows:
        micro = assemble(row)
        said, live = files.blocks(micro, micro.record_ids), teacher.blocks(micro, micro.record_ids)
        for layer in energies(kind):
            for ours, theirs in zip(said.of(layer), live.of(layer), strict=True):
                assert torch.equal(ours, theirs)


def test_records_are_found_in_whatever_order_they_are_drawn(tmp_path: Path) -> None:
    files = kept("laguna", tmp_path, [RECORDS[:2], RECORDS[2:]])
    kept_rows = [assemble(RECORDS[:2]), assemble(RECORDS[2:])]
    first, second = (files.blocks(micro, micro.record_ids) for micro in kept_rows)
    micro = assemble([RECORDS[2], RECORDS[0]])
    said = files.blocks(micro, micro.record_ids)
    for layer in energies("laguna"):
        for side in (0, 1):
            wanted = torch.cat([second.of(layer)[side], first.of(layer)[side][:9]])
            assert torch.equal(said.of(layer)[side], wanted)


def test_an_empty_row_counts_for_nothing(tmp_path: Path) -> None:
    files = kept("laguna", tmp_path, [RECORDS])
    losses = {"match": NormalisedError(Constant(1.0))}
    module = DistillModule(
        student=student_of("laguna"), losses=losses, fit=fit_settings.fit(**FIT), precision="fp32", seed=0,
        fidelity=fit_settings.fidelity(**SOUND), gradient_sync="last", blocks=files,
    )  # fmt: skip
    one = module._token_gradients(batch_of([RECORDS]), progress=0.0)[0]
    two = module._token_gradients(batch_of([RECORDS, []]), progress=0.0)[0]
    assert torch.equal(one["loss/match"], two["loss/match"])


def test_another_text_an_absent_record_and_an_unfinished_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    files = kept("laguna", tmp_path / "kept", [RECORDS[:2]])
    changed = assemble([RECORDS[0] | {"input_ids": [7] * 9}])
    with pytest.raises(DanteError, match="kept as another text"):
        files.blocks(changed, changed.record_ids)
    absent = assemble(RECORDS[2:])
    with pytest.raises(DanteError, match="record c was not kept"):
        files.blocks(absent, absent.record_ids)
    (tmp_path / "kept" / "kept.json").unlink()
    with pytest.raises(DanteError, match="not to the end"):
        BlocksInFiles(KeptBlocks(tmp_path / "kept"), energies("laguna"))


def test_blocks_of_another_mixture_are_refused() -> None:
    student = student_of("laguna")  # its first layer is dense
    with pytest.raises(DanteError, match="layers 1 to 2 .* layers 0 to 2"):
        DistillModule(
            student=student, losses={"match": NormalisedError(Constant(1.0))}, fit=fit_settings.fit(**FIT),
            fidelity=fit_settings.fidelity(**SOUND), precision="fp32", seed=0, gradient_sync="last",
            blocks=BlocksBeside(tiny_mixture("mixtral"), energies("mixtral")),
        )  # fmt: skip


def test_the_bytes_that_are_told_are_those_that_are_written(tmp_path: Path) -> None:
    kept("laguna", tmp_path, [RECORDS])
    layers = ADAPTERS["laguna"].sparse_layers(tiny_mixture("laguna").config)
    written = (tmp_path / "blocks-00000.safetensors").stat().st_size
    told = kept_bytes(TOKENS, len(layers), tiny_mixture("laguna").config.hidden_size)
    assert told < written < told + 1000


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose first stage has the teacher beside it."""
    run_dir = tmp_path_factory.mktemp("runs") / "live"
    made = "only=[dense,cache,teacher,calibration,init,fit-match]"
    run_here(run_dir, "laguna_dense", made)
    return run_dir


def curve(run_dir: Path) -> list[float]:
    rows = (run_dir / "fit-match" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["nmse/nmse"] for row in rows]


def test_a_fit_on_files_has_the_curve_of_a_fit_beside_the_teacher(live: Path) -> None:
    """Teacher in fp32, files in bf16: apart by rounding, which the small errors of this mixture show."""
    run_dir = live.parent / "kept"
    run_here(run_dir, "laguna_dense", "recipe=laguna_dense_kept", "only=[blocks,fit-match]")
    assert curve(run_dir) == pytest.approx(curve(live), rel=0.08)  # of errors of 0.002, by the kind of CPU
    assert curve(run_dir) != curve(live)
    plan = json.loads((run_dir / "fit-match" / "summary.json").read_text())
    assert plan["parameters"] == json.loads((live / "fit-match" / "summary.json").read_text())["parameters"]


def step_of(live: Path, out: Path, **changes: Any) -> Step[Any]:
    """The step `blocks` of that run, as the pipeline gives it to the stage."""
    step = composed(*KEPT, f"run.dir={live}")["steps"]["blocks"]
    settings = STAGES["blocks"].typed(step["settings"] | {"fit": step["settings"]["fit"] | changes})
    inputs = {name: (live / label).resolve() for name, label in step["inputs"].items()}
    return Step("blocks", "blocks", settings, step["resources"], inputs, out, "", step["settings"]["seed"])


def test_an_interrupted_step_goes_on_with_its_next_row(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(step_of(live, tmp_path / "whole"))
    add, rows = KeptBlocks.add, []

    def interrupted(self: KeptBlocks, number: int, *parts: Any) -> None:
        if number == 3:
            raise KeyboardInterrupt
        add(self, number, *parts)

    monkeypatch.setattr(KeptBlocks, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(step_of(live, tmp_path / "parts"))
    monkeypatch.setattr(
        KeptBlocks, "add", lambda self, number, *parts: rows.append(number) or add(self, number, *parts)
    )
    run(step_of(live, tmp_path / "parts"))
    assert rows[0] == 3
    assert rows == list(range(3, rows[-1] + 1))
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "parts").iterdir())
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name


def test_a_disk_that_is_too_small_is_told_before_the_first_row(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks_stage, "_SPARE_BYTES", 2**60)
    with pytest.raises(DanteError, match="the disk has"):
        run(step_of(live, tmp_path))
    assert not list(tmp_path.glob("blocks-*"))


def test_a_fit_whose_length_a_budget_decides_is_refused(live: Path, tmp_path: Path) -> None:
    with pytest.raises(DanteError, match="decided by a budget"):
        run(step_of(live, tmp_path, steps=None))


def test_the_step_has_the_batches_and_the_seed_of_the_fit_that_reads_it() -> None:
    shares = ("fit.steps=10", "steps.fit-match.share=0.3", "steps.fit-chat_kd.share=0.7")
    steps = composed(*KEPT, *shares)["steps"]
    assert steps["blocks"]["settings"]["fit"]["steps"] == steps["fit-match"]["settings"]["fit"]["steps"] == 3
    assert "lr" not in steps["blocks"]["settings"]["fit"]
    with pytest.raises(DanteError, match="read by none"):
        composed(*KEPT, "steps.fit-match.inputs.blocks=null")
