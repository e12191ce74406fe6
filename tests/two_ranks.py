"""Accounting on two processes: `torchrun … tests/two_ranks.py FOLDER`. Rank 1 holds more and waits longer for data."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

EXTRA_MIB = 300
WAIT_S = 0.05


def main(folder: Path) -> None:
    import os

    from lightning.pytorch.strategies import DDPStrategy
    from torch.utils.data import DataLoader, Dataset

    from dante.data.batch import StepBatch
    from dante.fit.record.accounting import Accounting
    from dante.fit.record.metrics import Recorder
    from dante.fit.record.metrics_file import MetricsFile
    from tests.test_module import STEPS, bare_trainer, module, step_batch, student

    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])

    class Plan(Dataset[StepBatch]):
        held: Any = None

        def __len__(self) -> int:
            return STEPS

        def __getitem__(self, step: int) -> StepBatch:
            if rank == 1:
                self.held = torch.ones(EXTRA_MIB * 2**18)
                time.sleep(WAIT_S)
            return step_batch([[0, 1]], step)

    recorder = Recorder(
        MetricsFile(folder / f"metrics-{rank}.jsonl"), 1, STEPS, Accounting(1, 1, "fp32", None, time.perf_counter())
    )
    strategy = DDPStrategy(process_group_backend="gloo")
    trainer = bare_trainer([recorder, recorder.lap("other")], devices=2, strategy=strategy)
    trainer.fit(module(student(torch.float32)), DataLoader(Plan(), batch_size=None))
    own = {
        "own_bytes": recorder.accounting._memory.read_bytes(),  # type: ignore[union-attr]
        "own_data_s": recorder.accounting.laps.seconds["data"],
        "own_tflops": recorder.accounting.peak["tflops"],
        "peak_flops": recorder.accounting.peak_flops,
        **recorder.accounting.summary(),
    }
    (folder / f"rank-{rank}.json").write_text(json.dumps(own))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
