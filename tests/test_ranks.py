"""Two processes (DDP on gloo): the same result, one stop for both, and no process that waits for a dead one."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from dante.errors import DanteError
from dante.fit.safety.stop import leave_signals_alone
from dante.run.board import Board
from tests.killing import Run, alive_in_group, steps_done

DDP = ("+experiment=sft", "scale=smoke", "trainer.devices=2", "trainer.strategy=ddp")
FSDP = (*DDP[:3], "trainer.strategy=fsdp2", "trainer.checkpoints=sharded")
BOTH = pytest.mark.parametrize("strategy", [DDP, FSDP], ids=["ddp", "fsdp2"])
BOUND_S = 60.0  # on a busy machine; ended processes are noticed after seconds


def test_rank_0_leaves_word_and_the_others_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DANTE_START", "test")
    board = Board(tmp_path, processes=2)
    (tmp_path / ".ranks" / "earlier").mkdir(parents=True)
    board.clear()
    assert [p.name for p in (tmp_path / ".ranks").iterdir()] == ["test"]
    threading.Timer(0.5, board.tell, ("fit", "run")).start()
    assert board.wait("fit") == "run"
    board.tell("fit", "ready")
    assert board.wait("fit") == "ready"
    threading.Timer(0.5, board.tell_failure).start()
    with pytest.raises(DanteError, match="rank 0 has ended"):
        board.wait("release")


def test_one_process_leaves_no_word(tmp_path: Path) -> None:
    board = Board(tmp_path, processes=1)
    board.clear()
    board.tell("fit", "run")
    board.tell_failure()
    assert list(tmp_path.iterdir()) == []


def test_lightning_s_own_signal_handling_can_still_be_switched_off(tmp_path: Path) -> None:
    from lightning.pytorch import Trainer

    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    leave_signals_alone(trainer)
    trainer._signal_connector.register_signal_handlers()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@BOTH
def test_two_processes_stop_together_go_on_and_overwrite(strategy: tuple[str, ...], tmp_path: Path) -> None:
    whole, run = Run(tmp_path / "whole" / "run", (*strategy, "fit.steps=40")), Run(tmp_path / "runs" / "run")
    whole.finish()
    run.overrides = whole.overrides
    for everyone in (False, True):  # as an orchestrator does it, and as SLURM and a terminal do
        done = steps_done(run)
        process = run.start()
        assert run.wait_for(lambda done=done: steps_done(run) > done, process), run.log.read_text()  # type: ignore[misc]
        (os.killpg if everyone else os.kill)(process.pid, signal.SIGTERM)
        said = run.end_of(process, code=143)
        assert f"stopped by SIGTERM after step {steps_done(run)}; the same command continues" in said
        assert "Traceback" not in said
        assert [p.stem for p in run.store.glob("fit-*/checkpoints/*")] == [f"step-{steps_done(run):06d}"]
        assert run.wait_for(lambda group=process.pid: not alive_in_group(group), None)  # type: ignore[misc]
    run.finish()
    assert run.result() == whole.result()
    run.finish("on_existing=overwrite", "only=fit")  # rank 1 must not take the old result for the new one
    assert run.result() == whole.result()


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_dies_takes_the_others_along(killed: int, strategy: tuple[str, ...], tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "run", (*strategy, "fit.steps=100000", "fit.checkpoint_every_steps=5"))
    process = run.start()
    assert run.wait_for(lambda: steps_done(run) > 6, process), run.log.read_text()
    child = next(pid for pid in map(int, _children(process.pid)) if pid != process.pid)
    os.kill([process.pid, child][killed], signal.SIGKILL)
    start = time.monotonic()
    while alive_in_group(process.pid):
        assert time.monotonic() - start < BOUND_S, run.log.read_text()
        time.sleep(0.2)
    print(f"rank {killed} killed; the other ended after {time.monotonic() - start:.1f} s")
    said = run.end_of(process, code=None)
    assert process.returncode == (2 if killed else -signal.SIGKILL), said
    assert "error rank" in said
    assert "the same command continues" in said
    assert "Traceback" not in said
    again = run.start()
    assert run.wait_for(lambda: "continues after step" in run.log.read_text(), again), run.log.read_text()
    run.kill(again)


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
