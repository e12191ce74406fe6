"""What a fit does when something goes wrong: spikes, a rank that hangs, memory that runs out."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from dante.cost.machine import memory_bytes
from dante.cost.memory import Shape
from dante.fit.record.metrics_file import MetricsFile
from dante.fit.record.spikes import SpikeWatch, threshold
from dante.fit.safety import out_of_memory
from dante.fit.safety.heartbeat import find_missing
from dante.losses.schedule import Constant
from dante.losses.tea import TEA
from dante.students.load import config_from
from dante.teachers.smoke import smoke_tokenizer
from tests import fit_settings
from tests.killing import ROOT, Run, alive_in_group

DDP = ("+experiment=sft", "scale=smoke", "trainer.devices=2", "trainer.strategy=ddp", "fit.steps=100000")
TIMEOUT_S = 12.0
POCKET = Shape(134_515_008, 49152 * 576, 49152, True, 576, 576, 1536, 30, 192)
FIT = {
    "max_tokens": 2048,
    "accumulate": None,
    "batch": {"unit": "records", "size": 8},
    "tile_tokens": None,
    "gradient_checkpointing": "none",
    "attention": "sdpa",
    "precision": "bf16",
}
ANCHOR = TEA(Constant(1.0), "row_mean", False, gradient_ratio=0.1, drift_rms=1e-4, calibration=0.1)
SOUND, CARD = fit_settings.fidelity(master_weights=True), fit_settings.fidelity(master_weights=False)
ONE = {
    "accelerator": "cpu",
    "devices": 1,
    "num_nodes": 1,
    "strategy": "auto",
    "gradient_sync": "every",
    "teacher_weights": "sharded",
    "teacher_device": None,
    "shard_size": None,
}


def watch(folder: Path, window: int = 20, deviations: float = 8.0) -> SpikeWatch:
    return SpikeWatch(MetricsFile(folder / "spikes.jsonl"), window, deviations, lambda batch: [f"r{batch}", "other"])


def losses(count: int) -> list[float]:
    """A falling, noisy loss."""
    noise = torch.Generator().manual_seed(0)
    return [4.0 / (1 + 0.05 * k) + 0.05 * float(torch.randn((), generator=noise)) for k in range(count)]


def feed(spikes: SpikeWatch, values: list[float], start: int = 0) -> list[int]:
    rows = [{"step": start + k + 1, "loss": value} for k, value in enumerate(values)]
    return [row["step"] for row in rows if spikes.observe(row, row["step"], write=True)]


def test_a_spike_is_told_once_and_written_with_its_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = losses(120)
    assert feed(watch(tmp_path / "calm"), values) == []
    values[60:62] = [9.0, 8.0]  # one spike of two steps
    values[90] = 5.0
    values[100] = float("nan")  # skipped by the module: no spike
    values[3] = 9.0  # nothing to compare with yet
    (tmp_path / "noisy").mkdir()
    spikes = watch(tmp_path / "noisy")
    assert feed(spikes, values) == [61, 62, 91]
    assert spikes.count == 2
    written = [json.loads(line) for line in (tmp_path / "noisy" / "spikes.jsonl").read_text().splitlines()]
    assert [(row["step"], row["records"]) for row in written] == [(s, [f"r{s}", "other"]) for s in (61, 62, 91)]
    assert all(row["loss"] > row["limit"] > row["median"] for row in written)
    told = capsys.readouterr().out.replace("\n", " ")
    assert told.count("loss spike") == 2
    assert "loss spike at step 61" in told
    assert "r61" in told


def test_a_higher_level_becomes_the_new_normal(tmp_path: Path) -> None:
    values = losses(200)
    values[100:] = [value + 3.0 for value in values[100:]]
    found = feed(watch(tmp_path), values)
    assert found[0] == 101
    assert found == list(range(101, found[-1] + 1))
    assert len(found) <= 11  # half a window


def test_the_threshold_does_not_follow_outliers_and_has_a_floor() -> None:
    calm = [1.0, 1.1, 0.9, 1.05, 0.95]
    assert threshold([*calm, 1e6], 8.0) < 3.0
    assert threshold([2.0] * 10, 8.0) == pytest.approx(2.0 * 1.008)  # equal losses: no spike from rounding
    assert threshold([], 8.0) == float("inf")


def test_the_watch_continues_after_a_checkpoint_as_if_nothing_had_happened(tmp_path: Path) -> None:
    values = losses(120)
    values[60:64] = [9.0, 8.0, 9.0, 9.0]
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    whole, killed, resumed = watch(folders[0]), watch(folders[1]), watch(folders[1])
    found = feed(whole, values)
    feed(killed, values[:62])  # the last checkpoint is of step 62, inside the spike
    state = json.loads(json.dumps(killed.state_dict()))
    feed(killed, values[62:70], 62)  # it gets as far as step 70
    resumed.load_state_dict(state)
    resumed.cut_after(62)
    assert feed(resumed, values[62:], 62) == [step for step in found if step > 62] == [63, 64]
    assert resumed.state_dict() == whole.state_dict()
    whole_file, resumed_file = ((folder / "spikes.jsonl").read_text() for folder in folders)
    assert whole_file == resumed_file


def beats(**rows: tuple[int, int, str]) -> dict[int, dict[str, object]]:
    return {int(rank[1:]): dict(zip(("beat", "progress", "at"), row, strict=True)) for rank, row in rows.items()}


WAITS = "/x/torch/distributed/distributed_c10d.py:2 in all_reduce"
BACKWARD = "/x/torch/autograd/graph.py:1 in _engine_run_backward"
LOOPS = "/x/dante/losses/ce.py:9 in on_tile"


def test_the_missing_rank_is_found_by_what_the_others_still_do() -> None:
    before = beats(r0=(5, 9, WAITS), r1=(5, 9, WAITS), r2=(5, 9, WAITS))

    def blamed(**after: tuple[int, int, str]) -> tuple[int, ...] | None:
        found = find_missing(before, beats(**after), 3)
        return found.ranks if found else None

    assert blamed(r0=(8, 9, WAITS), r1=(5, 9, WAITS), r2=(8, 9, WAITS)) == (1,)  # writes no more
    assert blamed(r0=(8, 9, WAITS), r2=(8, 9, WAITS)) == (1,)  # never wrote
    assert blamed(r0=(8, 9, WAITS), r1=(8, 9, WAITS), r2=(8, 7, WAITS)) == (2,)  # behind
    assert blamed(r0=(8, 9, LOOPS), r1=(8, 9, BACKWARD), r2=(8, 9, WAITS)) == (0,)  # elsewhere
    assert blamed(r0=(8, 9, WAITS), r1=(8, 9, BACKWARD), r2=(8, 9, WAITS)) is None
    assert blamed(r0=(8, 9, LOOPS), r1=(8, 9, LOOPS), r2=(8, 9, LOOPS)) is None
    # silence counts more than being behind, and being behind more than being elsewhere
    assert blamed(r0=(8, 7, WAITS), r1=(5, 9, WAITS), r2=(8, 9, LOOPS)) == (1,)
    assert blamed(r0=(8, 7, WAITS), r1=(8, 9, WAITS), r2=(8, 9, LOOPS)) == (0,)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _steps_done(run: Run) -> int:
    files = list(run.store.glob("fit-*.partial/metrics.jsonl"))
    return files[0].read_text().count("\n") if files else 0


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_rank_that_was_stopped_is_named_and_the_other_ends(stopped: int, tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "run", (*DDP, "fit.checkpoint_every_steps=5", f"trainer.timeout_s={TIMEOUT_S}"))
    process = run.start()
    assert run.wait_for(lambda: _steps_done(run) > 6, process), run.log.read_text()
    (child,) = _children(process.pid)
    os.kill([process.pid, child][stopped], signal.SIGSTOP)
    start = time.monotonic()
    while len(alive_in_group(process.pid)) > (1 - stopped):  # a stopped rank 0 stays as it is: nobody may touch it
        assert time.monotonic() - start < TIMEOUT_S + 10, run.log.read_text()
        time.sleep(0.05)
    took_s = time.monotonic() - start
    print(f"rank {stopped} stopped; the other ended after {took_s:.1f} s of {TIMEOUT_S:g}")
    said = run.log.read_text()
    assert said.count("error ") == 1, said
    assert f"error rank {stopped} hangs: no progress for" in said
    assert f"rank {1 - stopped} waits in step" in said
    assert "trainer.timeout_s=12" in said
    assert "the same command continues after the last checkpoint" in said
    assert f"process {[process.pid, child][stopped]} on" in said
    if stopped == 0:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    else:
        assert process.wait(10) == 2
    assert TIMEOUT_S / 2 < took_s < TIMEOUT_S + 2  # two busy cores
    again = run.start()
    assert run.wait_for(lambda: "continues after step" in run.log.read_text(), again), run.log.read_text()
    run.kill(again)


@pytest.mark.slow
@pytest.mark.parametrize(("where", "why"), [("loss", "is somewhere else"), ("data", "is behind the others")])
def test_a_rank_in_an_endless_loop_is_named(where: str, why: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "tests/hanging.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    done = subprocess.run(
        [*command, where, str(tmp_path / "beats"), "6"], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    print(f"{where}: ended after {time.monotonic() - start:.1f} s, start-up included")
    said = [line for line in done.stderr.splitlines() if line.startswith("error ")]
    assert len(said) == 1, done.stderr
    assert said[0].startswith("error rank 1 hangs: no progress for")
    assert why in said[0]
    assert "tests/hanging.py" in said[0]
    assert ("in step 4" if where == "loss" else "after step 3") in said[0]
    assert done.returncode != 0


def test_advice_is_sorted_by_what_it_saves_and_names_what_applies() -> None:
    budget = out_of_memory.budget_of(POCKET, fit_settings.fit(**FIT), SOUND, ONE, losses=[ANCHOR])
    keys = [text.split("=")[0] for text in budget.advice]
    assert set(keys) == {"fit.max_tokens", "fit.tile_tokens", "fit.gradient_checkpointing", "fidelity"}
    saved = [float(text.split("−")[1].split()[0]) / (1 if "GiB" in text else 1024) for text in budget.advice]
    assert saved == sorted(saved, reverse=True)
    assert keys[-1] == "fit.tile_tokens"
    many = out_of_memory.budget_of(
        POCKET,
        fit_settings.fit(
            **{**FIT, "gradient_checkpointing": "full", "accumulate": 1, "batch": {"unit": "packs", "size": 16}}
        ),
        CARD,
        {**ONE, "devices": 2, "strategy": "ddp"},
        losses=[],
    )
    keys = [text.split("=")[0] for text in many.advice]
    assert {"fit.accumulate", "trainer.strategy"} <= set(keys)
    assert not {"fidelity", "fit.gradient_checkpointing"} & set(keys)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(28, "No space left on device"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    budget = out_of_memory.budget_of(POCKET, fit_settings.fit(**FIT), SOUND, ONE, losses=[ANCHOR])
    assert (out_of_memory.as_dante_error(error, budget) is not None) is expected
    outer = RuntimeError("failed")
    outer.__cause__ = error
    assert (out_of_memory.as_dante_error(outer, budget) is not None) is expected


def test_a_fit_larger_than_the_machine_is_announced_once(capsys: pytest.CaptureFixture[str]) -> None:
    vast = Shape(70 * 10**9, 128256 * 8192, 128256, False, 8192, 8192, 28672, 80, 1024)
    out_of_memory.announce(out_of_memory.budget_of(vast, fit_settings.fit(**FIT), SOUND, ONE, losses=[]), ranks_here=1)
    said = capsys.readouterr().out.replace("\n", " ")
    assert "may run out of memory" in said
    assert "fidelity=card" in said
    small = Shape(10**6, 10**5, 1000, True, 100, 100, 100, 2, 100)
    out_of_memory.announce(out_of_memory.budget_of(small, fit_settings.fit(**FIT), SOUND, ONE, losses=[]), ranks_here=1)
    assert capsys.readouterr().out == ""


def test_the_address_space_limit_is_memory_that_is_not_there() -> None:
    code = (
        "import resource, torch; from dante.cost.machine import memory_bytes; cpu = torch.device('cpu');"
        "before = memory_bytes(cpu); resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30));"
        "print(before[0], *memory_bytes(cpu))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    whole, limit, left = map(int, done.stdout.split())
    assert limit == min(whole, 8 * 2**30)
    assert 0 < left < 8 * 2**30
    own = memory_bytes(torch.device("cpu"))
    assert own is not None
    assert own[0] <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") + 2**20


@pytest.mark.slow
def test_a_fit_that_runs_out_of_memory_says_what_helps(tmp_path: Path) -> None:
    width, layers = 768, 6
    architecture = {
        "model_type": "llama", "vocab_size": 512, "hidden_size": width, "intermediate_size": 4 * width,
        "num_hidden_layers": layers, "num_attention_heads": 12, "num_key_value_heads": 12, "tie_word_embeddings": True,
    }  # fmt: skip
    config = config_from({**architecture, "eos_token_id": 2, "pad_token_id": 2})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "large")
    smoke_tokenizer().save_pretrained(tmp_path / "large")
    values = ",".join(f"{key}:{str(value).lower()}" for key, value in architecture.items())
    large = (f"student.source={tmp_path}/large", "student.init.layers=null", f"student.architecture={{{values}}}")
    run = Run(tmp_path / "runs" / "run", ("+experiment=sft", "scale=smoke", *large))
    run.finish("only=[teacher,cache,init]")
    probe = "import dante.fit.stage, train; print(open('/proc/self/status').read())"
    status = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    imported_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmSize"))
    # Room for the weights and their gradients, but not for both of Adam's moments.
    limit_kib = imported_kib + int(3.5 * 4 * 16 * layers * width**2 / 1024)
    process = run.start("only=fit", prefix=["sh", "-c", f'ulimit -v {limit_kib}; exec "$@"', "sh"])
    said = " ".join(run.end_of(process, code=2).split())
    print(said[-900:])
    assert "Traceback" not in said
    assert "this fit may run out of memory" in said
    assert "error out of memory: it needs about 0.8 GiB for weights, gradients and Adam" in said
    assert "can't allocate memory" in said
    assert f"the device has {limit_kib / 2**20:.1f} GiB" in said
    fix = said[said.index("error") :]
    assert "fidelity=card" not in fix  # the smoke scale computes in fp32
    assert fix.index("fit.max_tokens=128") > 0
    assert "fit.gradient_checkpointing=full" in fix
