"""What a fit says it cost: time by cause, tokens, peak rates, memory, energy; and what the plan says it will need."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch.utils.data import Dataset

from dante.cost import product_rate
from dante.cost.estimate import student_shape
from dante.cost.machine import Energy, PeakMemory, _control_groups
from dante.cost.memory import Shape, memory_of, shape_of
from dante.cost.peak import listed_tflops, peak_of
from dante.data.batch import StepBatch
from dante.fit.record.accounting import MACHINE_KEYS, Accounting
from dante.fit.record.laps import Laps
from dante.fit.record.metrics import Recorder
from dante.fit.record.metrics_file import MetricsFile
from dante.losses.base import LinearLoss, Loss
from dante.losses.ce import CE
from dante.losses.distillation.divergences import ForwardKL
from dante.losses.distillation.logits import LogitDistillation
from dante.losses.entropy_penalty import EntropyPenalty
from dante.losses.schedule import Constant
from dante.system.files import GIB
from tests import fit_settings
from tests.killing import ROOT
from tests.test_guards import ANCHOR, FIT, ONE, POCKET
from tests.test_module import ONE_ROW, STEPS, module, run_steps, step_batch, student

CPU = torch.device("cpu")
DATA_S, CHECKPOINT_S, EVERY = 0.03, 0.05, 4
RATE = {"peak_tflops": 1.0, "precision": "fp32"}


class Slow(Dataset[StepBatch]):
    """Steps that take a while to come."""

    def __init__(self, start: int = 0, slow: int = STEPS) -> None:
        self.start, self.slow = start, slow

    def __len__(self) -> int:
        return STEPS - self.start

    def __getitem__(self, index: int) -> StepBatch:
        if index >= len(self):
            raise IndexError
        time.sleep(DATA_S if index < self.slow else 0.0)
        return step_batch(ONE_ROW, self.start + index)


class Writes(Callback):
    """Stands where checkpoints are written."""

    def on_train_batch_end(self, *arguments: Any) -> None:
        time.sleep(CHECKPOINT_S)


def recorder(folder: Path, every: int = 1, **accounting: Any) -> Recorder:
    folder.mkdir(exist_ok=True)
    costs = Accounting(10, 5, **{**RATE, "began_s": time.perf_counter(), **accounting})
    return Recorder(MetricsFile(folder / "metrics.jsonl"), every, STEPS, costs)


def fit(record: Recorder, data: Dataset[StepBatch] | None = None, between: tuple[Callback, ...] = ()) -> list[Any]:
    run_steps(module(), data or Slow(), [record, *between, record.lap("checkpoint"), record.lap("other")])
    return [json.loads(line) for line in record.file.path.read_text().splitlines()]


def test_time_is_given_to_what_took_it(tmp_path: Path) -> None:
    record = recorder(tmp_path, began_s=time.perf_counter() - 5.0)
    start = time.perf_counter()
    rows = fit(record, between=(Writes(),))
    whole_s = time.perf_counter() - start
    seconds, summary = record.accounting.laps.seconds, record.accounting.summary()
    assert set(seconds) == {"step", "data", "checkpoint", "other"}
    assert seconds["data"] >= DATA_S * (STEPS - 1)  # the first batch belongs to the start
    assert seconds["checkpoint"] >= CHECKPOINT_S * STEPS
    assert DATA_S + 5.0 <= summary["startup_s"] < whole_s + 5.0
    assert summary["wall_s"] == pytest.approx(sum(seconds.values()), abs=0.01)
    assert summary["wall_s"] + summary["startup_s"] - 5.0 <= whole_s + 0.01
    assert summary["data_wait_share"] == pytest.approx(seconds["data"] / sum(seconds.values()), abs=1e-3)
    assert summary["checkpoint_share"] == pytest.approx(seconds["checkpoint"] / sum(seconds.values()), abs=1e-3)
    assert rows[0]["data_wait_share"] == 0.0
    assert all(row["data_wait_share"] > 0 for row in rows[1:])
    assert set(MACHINE_KEYS) - {"energy_j"} <= set(rows[0])


def test_a_window_between_logged_steps_counts_all_of_them_and_waits_for_the_device_once(tmp_path: Path) -> None:
    calls = []
    record = recorder(tmp_path, every=EVERY)
    trained = module()
    collect = trained.collect_metrics
    trained.collect_metrics = lambda: calls.append(1) or collect()  # type: ignore[func-returns-value, method-assign]
    run_steps(trained, Slow(slow=EVERY), [record, record.lap("other")])
    rows = [json.loads(line) for line in record.file.path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [EVERY, STEPS]
    assert len(calls) == len(rows)
    assert rows[1]["data_wait_share"] < 0.5 * rows[0]["data_wait_share"]  # its steps alone, and these come at once
    # Two windows cover all but the first wait; each is all tokens of its steps over all of its time.
    per_step = step_batch(ONE_ROW).tokens
    seconds = [n * per_step / row["tokens_per_s"] for n, row in zip((EVERY, STEPS - EVERY), rows, strict=True)]
    assert sum(seconds) == pytest.approx(
        record.accounting.laps.elapsed_s - record.accounting.laps.seconds["other"], rel=0.1
    )
    for row in rows:
        share = step_batch(ONE_ROW).supervised_tokens / per_step
        assert row["supervised_tokens_per_s"] == pytest.approx(row["tokens_per_s"] * share, rel=0.01)
        flops = 6 * (10 * per_step + 5 * step_batch(ONE_ROW).supervised_tokens)
        assert row["mfu"] == pytest.approx(flops / per_step * row["tokens_per_s"] / 1e12, abs=1e-4)


def test_sums_go_on_after_an_interruption(tmp_path: Path) -> None:
    whole = recorder(tmp_path / "whole")
    fit(whole)

    class Stops(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            trainer.should_stop = batch.step == 2

    first = recorder(tmp_path / "parts")
    fit(first, between=(Stops(), Writes()))
    state = json.loads(json.dumps(first.state_dict()))
    second = recorder(tmp_path / "parts")
    second.load_state_dict(state)
    second.cut_after(first.steps_done)
    assert first.steps_done == 3
    fit(second, Slow(start=3), between=(Writes(),))
    for key in ("tokens", "supervised_tokens", "flops"):
        assert second.accounting.summary()[key] == whole.accounting.summary()[key] > 0
    assert second.accounting.laps.seconds["checkpoint"] >= STEPS * CHECKPOINT_S
    assert second.accounting.laps.seconds["data"] >= (STEPS - 2) * DATA_S  # two starts wait for their first batch
    # A fit that was killed after its last step has its summary from the checkpoint alone.
    third = recorder(tmp_path / "third")
    third.load_state_dict(json.loads(json.dumps(second.state_dict())))
    assert third.accounting.summary()["peak_mem_gib"] == second.accounting.summary()["peak_mem_gib"] > 0.1
    assert third.accounting.summary()["mfu"] == second.accounting.summary()["mfu"]


def test_laps_add_up() -> None:
    laps = Laps()
    laps.start()
    time.sleep(0.02)
    laps.lap("a")
    before = dict(laps.seconds)
    time.sleep(0.01)
    laps.lap("b")
    laps.lap("a")
    assert laps.share("a") + laps.share("b") == pytest.approx(1.0)
    assert laps.share("b", since=before) > 0.9
    assert laps.share("never") == 0.0
    assert Laps().share("a") == 0.0


@pytest.fixture
def kept_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's machine keeps its rates: nothing so far."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dante" / "product_rates.json"


@pytest.mark.usefixtures("kept_rates")
def test_the_peak_is_the_config_s_the_list_s_or_measured() -> None:
    name = "NVIDIA A100-SXM4-40GB"
    assert (peak_of(CPU, "bf16", 7.0, name).tflops, peak_of(CPU, "bf16", 7.0, name).source) == (7.0, "config")
    assert (peak_of(CPU, "bf16", None, name).tflops, peak_of(CPU, "bf16", None, name).source) == (312.0, "listed")
    found = peak_of(CPU, "fp32", None, "some CPU")
    assert found.source == "measured"
    assert found.measured_tflops == {"fp32": found.tflops}  # the precision in use, and no other
    assert listed_tflops("NVIDIA H100 PCIe", "bf16") == 756.0
    assert listed_tflops("NVIDIA H100 80GB HBM3", "bf16") == 989.0
    assert listed_tflops("NVIDIA GH200 480GB", "fp32") == 67.0
    assert listed_tflops("Tesla T4", "bf16") is None


def test_measuring_a_rate_is_quick_plausible_and_leaves_the_random_state_alone() -> None:
    before, start = torch.get_rng_state(), time.perf_counter()
    rate = product_rate.measure(CPU, "fp32")
    assert time.perf_counter() - start < 2.0  # 0.3 s where nobody else computes
    assert torch.equal(torch.get_rng_state(), before)
    a = torch.rand(1024, 1024)
    best_s = min(_timed(lambda: torch.mm(a, a)) for _ in range(10))
    assert 0.3 * 2 * 1024**3 / best_s / 1e12 < rate.tflops < 100


def test_products_that_are_far_too_slow_end_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def slow(multiply: Any, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> float:
        sizes.append(len(a))
        time.sleep(0.1)
        return 0.1

    monkeypatch.setattr(product_rate, "_product_s", slow)
    start = time.perf_counter()
    assert product_rate.measure(CPU, "bf16", seconds=0.3).tflops == pytest.approx(2 * 256**3 / 0.1 / 1e12, rel=0.01)
    assert set(sizes) == {256}
    assert time.perf_counter() - start < 0.6


def test_the_best_rate_is_kept_per_machine_and_believed_after_four_quiet_measurements(
    kept_rates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([(1.0, False), (2.0, True), (1.5, True), (2.5, False), (2.2, True), (2.1, True), (3.0, True)])
    monkeypatch.setattr(product_rate, "measure", lambda *_: product_rate.Rate(*next(found)))

    def rate(again: bool = False, name: str = "some CPU") -> tuple[float, bool]:
        rate = product_rate.product_rate(CPU, "fp32", name, again)
        return rate.tflops, rate.quiet

    assert rate() == (1.0, False)  # busy: told, and not kept
    assert not kept_rates.exists()
    assert rate() == (2.0, True)
    assert rate() == (2.0, True)  # an unseen neighbour: the better one stays
    assert rate() == (2.5, False)  # busy, and better all the same: not kept
    assert rate() == (2.2, True)
    assert rate() == (2.2, True)
    assert rate() == (2.2, True)  # believed: nothing is measured
    assert rate(again=True) == (3.0, True)
    monkeypatch.setattr(product_rate, "measure", lambda *_: product_rate.Rate(4.0, True))
    assert rate() == (3.0, True)
    assert rate(name="another") == (4.0, True)
    kept_rates.write_text("damaged")
    assert rate() == (4.0, True)


def test_a_share_above_the_peak_is_measured_again_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peak of nearly nothing, as measured beside a busy neighbour."""
    from dante.cost.peak import Peak
    from dante.fit.record import accounting

    answers = iter([Peak(1e-9, "measured", {}), Peak(1e-9, "measured", {}, False), Peak(1e-6, "measured", {})])
    monkeypatch.setattr(accounting, "peak_of", lambda *_, **__: next(answers))
    record = recorder(tmp_path / "again", peak_tflops=None)
    assert all(0 < row["mfu"] < 1 for row in fit(record))
    assert record.accounting.note is None

    hopeless = [Peak(1e-9, "measured", {})] * 9
    asked = iter(hopeless)
    monkeypatch.setattr(accounting, "peak_of", lambda *_, **__: next(asked))
    record = recorder(tmp_path / "never", peak_tflops=None)
    assert {row["mfu"] for row in fit(record)} == {None}
    assert record.accounting.summary()["mfu"] is None
    assert record.accounting.note is not None
    assert len(list(asked)) == 9 - 1 - 3  # at the start, and three times more


def _timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_peak_memory_forgets_what_was_before() -> None:
    code = (
        "import torch; from dante.cost.machine import PeakMemory; peak = PeakMemory(torch.device('cpu'));"
        "before = peak.read_bytes(); x = torch.ones(2**27); del x; high = peak.read_bytes(); peak.start();"
        "low = peak.read_bytes(); y = torch.ones(2**25); print(before, high, low, peak.read_bytes(), peak.scope)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    *sizes, scope = done.stdout.split()
    before, high, low, after = map(int, sizes)
    assert scope == "fit"
    assert high - before > 0.9 * 2**29
    assert high - low > 0.8 * 2**29
    assert 0.9 * 2**27 < after - low < 1.2 * 2**27


def test_where_the_mark_cannot_be_set_back_the_scope_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("dante.cost.machine._PROC", tmp_path)
    peak = PeakMemory(CPU)
    peak.start()
    assert peak.scope == "process"
    assert peak.read_bytes() > 50 * 2**20  # the process's own mark


def test_energy_is_the_packages_and_survives_a_counter_that_starts_again(tmp_path: Path) -> None:
    def zone(name: str, label: str, micro_j: int) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "name").write_text(label + "\n")
        (folder / "max_energy_range_uj").write_text("1000000000\n")
        (folder / "energy_uj").write_text(f"{micro_j}\n")
        return folder / "energy_uj"

    first, second = zone("intel-rapl:0", "package-0", 900_000_000), zone("intel-rapl:1", "package-1", 0)
    inside = zone("intel-rapl:0:0", "dram", 0)  # part of a package's neighbour: not counted
    meter = Energy(CPU, tmp_path)
    assert meter.read_j() == 0.0
    first.write_text("100000000")  # 900 → 1,000 = 0 → 100 J
    second.write_text("50000000")
    inside.write_text("70000000")
    assert meter.read_j() == pytest.approx(250.0)
    second.write_text("60000000")
    assert meter.read_j() == pytest.approx(260.0)
    assert Energy(CPU, tmp_path / "nothing").read_j() is None


def test_control_groups_of_both_versions_limit_memory(tmp_path: Path) -> None:
    root, two = tmp_path / "cgroup", tmp_path / "cgroup" / "job" / "step"
    two.mkdir(parents=True)
    (two / "memory.max").write_text("max\n")
    (two / "memory.current").write_text("1000\n")
    (two.parent / "memory.max").write_text("8000\n")
    (two.parent / "memory.current").write_text("5000\n")
    (two.parent / "memory.stat").write_text("anon 1\ninactive_file 1500\n")
    membership = tmp_path / "membership"
    membership.write_text("0::/job/step\n")
    assert _control_groups(membership, root) == [(8000, 4500)]
    one = root / "memory" / "box"
    one.mkdir(parents=True)
    (one / "memory.limit_in_bytes").write_text("9000")
    (one / "memory.usage_in_bytes").write_text("2000")
    membership.write_text("4:cpu,cpuacct:/\n5:memory:/box\n")
    assert _control_groups(membership, root) == [(9000, 7000)]
    assert _control_groups(tmp_path / "nothing", root) == []


@pytest.mark.slow
def test_two_ranks_tell_the_fullest_the_longest_and_what_they_have_together(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "tests/two_ranks.py",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    assert second["own_bytes"] - first["own_bytes"] > 200 * 2**20
    assert first["peak_mem_gib"] == second["peak_mem_gib"]
    assert first["peak_mem_gib"] * GIB > first["own_bytes"] + 150 * 2**20
    assert first["own_data_s"] < second["own_data_s"]
    assert first["data_wait_share"] == pytest.approx(second["own_data_s"] / first["wall_s"], rel=0.15)
    together = (first["own_tflops"] + second["own_tflops"]) * 1e12
    assert first["peak_flops"] == second["peak_flops"] == pytest.approx(together)
    assert first["devices"] == 2
    assert first["device_hours"] == pytest.approx(2 * first["wall_s"] / 3600, rel=0.02)
    assert not (tmp_path / "metrics-1.jsonl").exists()


SETTINGS: dict[str, Any] = {**FIT, "max_tokens": 1024, "attention": "documents"}


def test_the_shape_of_a_model_is_the_plan_s() -> None:
    model = student(torch.float32)
    shape = shape_of(model)
    kept = {"_target_": "dante.students.init.keep_layers.KeepLayers", "layers": [0, 3]}
    architecture = {
        "model_type": "llama", "vocab_size": 53, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4,
        "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True,
    }  # fmt: skip
    assert student_shape({"architecture": architecture, "init": kept}) == shape
    assert shape.body_parameters == sum(p.numel() for p in model.parameters()) - 53 * 16
    untied = shape_of(student(torch.float32, tied=False))
    assert untied.body_parameters == shape.body_parameters
    assert untied.parameters == shape.parameters + 53 * 16


def test_what_the_memory_model_says_autograd_keeps_is_what_it_keeps() -> None:
    """Bytes saved by one more block of SmolLM2's shape, counted with autograd's own hooks."""
    from contextlib import nullcontext

    from transformers import AutoModelForCausalLM

    from dante.data.batch import documents
    from dante.models.mkl_linear import avoid_emulation
    from dante.students.attention.choose import use_attention
    from dante.students.lean_norm import make_lean
    from dante.students.load import config_from

    tokens, width = 256, 576

    def kept(layers: int, dtype: torch.dtype, autocast: bool) -> int:
        config = config_from(
            {"model_type": "llama", "vocab_size": 64, "hidden_size": width, "intermediate_size": 1536,
             "num_hidden_layers": layers, "num_attention_heads": 9, "num_key_value_heads": 3}
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").train()
        use_attention(model, "documents", "cpu")
        make_lean(model)
        avoid_emulation(model)
        weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        found: dict[int, int] = {}

        def see(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        ids = torch.zeros(1, tokens, dtype=torch.int64)
        positions = (torch.arange(tokens) % 64)[None]
        row = documents([64] * (tokens // 64))
        mode = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
        with torch.autograd.graph.saved_tensors_hooks(see, lambda t: t), mode:
            out = model.base_model(input_ids=ids, position_ids=positions, use_cache=False, **row)
        del out
        return sum(found.values())

    for dtype, autocast, masters, precision in (
        (torch.float32, True, True, "bf16"),
        (torch.bfloat16, True, False, "bf16"),
        (torch.float32, False, True, "fp32"),
    ):
        counted = kept(2, dtype, autocast) - kept(1, dtype, autocast)
        settings = fit_settings.fit(**{**SETTINGS, "max_tokens": tokens, "precision": precision})
        one, two = (
            memory_of(
                Shape(p, 0, 64, True, width, width, 1536, n, width // 3),
                settings,
                fit_settings.fidelity(master_weights=masters),
                ONE,
                [],
            )
            for n, p in ((1, 3_540_096), (2, 2 * 3_540_096))
        )
        lines = ("activations", "weight_copies", "attention_mask")
        assert sum(getattr(two, line) - getattr(one, line) for line in lines) == pytest.approx(counted, rel=0.005)


def test_the_memory_model_follows_the_config() -> None:
    def total(fidelity: bool = True, losses: tuple[Loss, ...] = (ANCHOR,), **changes: Any) -> Any:
        trainer = {**ONE, **{k: changes.pop(k) for k in ("devices", "strategy", "accelerator") if k in changes}}
        return memory_of(
            POCKET,
            fit_settings.fit(**{**SETTINGS, **changes}),
            fit_settings.fidelity(master_weights=fidelity),
            trainer,
            list(losses),
        )

    base = total()
    assert base.state == 16 * POCKET.parameters + 4 * POCKET.embedding_entries
    assert total(fidelity=False).state == base.state / 2
    assert total(losses=()).state == 16 * POCKET.parameters
    assert total(devices=4, strategy="fsdp2").state == base.state / 4
    assert total(devices=4, strategy="ddp").state == base.state
    assert total(gradient_checkpointing="full").activations < 0.2 * base.activations
    longer = total(max_tokens=2048)
    assert longer.activations == 2 * base.activations
    assert base.attention_mask == 0.0
    masked = total(attention="sdpa")
    assert total(attention="sdpa", max_tokens=2048).attention_mask == 4 * masked.attention_mask > 0
    joined = total(accumulate=1, batch={"unit": "packs", "size": 2})
    assert joined.slack == longer.slack  # of the same activations
    selective = total(gradient_checkpointing="selective").activations
    assert total(gradient_checkpointing="full").activations < selective < base.activations
    assert total(accelerator="gpu").process == 0.0


def test_a_live_teacher_takes_memory_whole_or_spread() -> None:
    parameters, loss = 33.4e9, LogitDistillation(Constant(1.0), ForwardKL(), 1.0)

    def teacher(**trainer: Any) -> float:
        fit, kept = fit_settings.fit(**{**SETTINGS, "precision": "bf16"}), fit_settings.fidelity(master_weights=True)
        return memory_of(POCKET, fit, kept, {**ONE, **trainer}, [loss], [parameters]).teacher

    whole = 2 * parameters
    sharded = {"devices": 8, "strategy": "fsdp2"}
    ends = 2 * 2 * POCKET.embedding_entries  # embedding and head stay whole
    assert teacher() == teacher(**sharded, teacher_weights="whole") == whole
    assert teacher(**sharded) == whole / 8 + 2 * whole / POCKET.layers + ends
    assert teacher(teacher_device="cuda:1") == 2 * POCKET.embedding_entries
    fit, kept = fit_settings.fit(**SETTINGS), fit_settings.fidelity(master_weights=True)
    assert memory_of(POCKET, fit, kept, ONE, [loss]).teacher == 0.0


def test_what_losses_read_of_a_tile_takes_more_of_them() -> None:
    def tiles(accelerator: str, *losses: Loss) -> float:
        trainer = {**ONE, "accelerator": accelerator}
        fit, kept = fit_settings.fit(**{**SETTINGS, "precision": "fp32"}), fit_settings.fidelity(master_weights=True)
        return memory_of(POCKET, fit, kept, trainer, losses).logits

    ce, entropy = CE(Constant(1.0)), EntropyPenalty(Constant(1.0))
    for accelerator, more in (("cpu", 1), ("gpu", 3)):
        one = tiles(accelerator, ce)
        assert one == tiles(accelerator, ANCHOR)
        assert tiles(accelerator, ce, entropy) == more * one
    assert tiles("cpu", ce, LinearLoss(Constant(1.0), "autograd")) == 3 * tiles("cpu", ce)
    assert tiles("cpu", ce, LogitDistillation(Constant(1.0), ForwardKL(), 1.0)) == 4 * tiles("cpu", ce)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"layers": 14, "pack": 1024},
        {"layers": 30, "pack": 1024, "checkpointing": "full", "fidelity": "card", "tea": False},
    ],
)
def test_the_estimate_is_within_15_percent_of_a_real_fit(options: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "tests.fit_memory", json.dumps({**options, "steps": 12})]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{options}: estimated {found['estimate'] / GIB:.2f} GiB, measured {found['peak'] / GIB:.2f} GiB")
    assert found["estimate"] == pytest.approx(found["peak"], rel=0.15)


def test_what_was_freed_goes_back_to_the_system(tmp_path: Path) -> None:
    code = (
        "import torch; from types import SimpleNamespace as N; from dante.fit.safety.return_freed import ReturnFreed;"
        "from dante.cost.machine import _status_bytes; back = ReturnFreed(every_s=0.0);"
        "back.on_train_start(N(strategy=N(root_device=torch.device('cpu'))), None);"
        # Small blocks come from the heap; the last one lives on and keeps what lies below it.
        "blocks = [torch.ones(2**14) for _ in range(4000)]; last = blocks.pop(); del blocks;"
        "before = _status_bytes('VmRSS'); back.on_train_batch_end(None, None, None, None, 0);"
        "print(before - _status_bytes('VmRSS'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) > 150 * 2**20
